"""Anyone's own table: columns by name, every cell accounted for, every fault with its line."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_iris

import dltrain
from dltrain.contracts.data import Batch, Field
from dltrain.data.tables.csv_file import CsvTable
from dltrain.data.tables.source import Iris
from dltrain.runs.load import reader_of_run
from tests.asking import assembled
from tests.conftest import Cli, Compose, Train
from tests.streams import opened, whole

Write = Callable[..., str]
ROWS = "size,colour,weight\n" + "".join(
    f"{i},{'red' if i % 2 else 'blue'},{2 * i + 1}\n" for i in range(20)
)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(text: str | bytes, name: str = "table.csv") -> str:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return written


def splits(*arguments: Any, **settings: Any) -> tuple[Batch, Batch]:
    settings = {"validation": 0, "batch_size": "full"} | settings
    loaders = opened(CsvTable(*arguments, **settings), 0)
    order = loaders["train"].rows(0, 0).argsort()
    return {n: c[order] for n, c in whole(loaders["train"]).items()}, whole(loaders["test"])


def test_numbers_and_texts_become_features_and_a_number_a_target(write: Write) -> None:
    path = write(ROWS)
    source = CsvTable(path, target="weight")

    assert source.outline().fields == {"input": Field((None,), "number", "input")}
    spec = source.read(0)
    assert spec.complete and (spec.input.shape, spec.target.shape) == ((3,), (1,))
    assert spec.input.names == ("size", "colour=blue", "colour=red")
    assert (spec.input.mean[1:], spec.input.std[1:]) == ((0, 0), (1, 1))
    assert spec.target.mean == pytest.approx([18.4286], abs=1e-4)
    assert spec.target.std == pytest.approx([11.985], abs=1e-3)
    train, test = splits(path, target="weight", standardize=False)
    assert (len(train["input"]), len(test["input"])) == (16, 4)
    for split in (train, test):
        size = split["input"][:, 0]
        assert torch.equal(split["target"][:, 0], 2 * size + 1)
        assert torch.equal(split["input"][:, 2], size % 2)
        assert torch.equal(split["input"][:, 1], 1 - size % 2)


def test_standardizing_spares_categories_and_knows_training_rows_alone(
    write: Write,
) -> None:
    train, test = splits(write(ROWS), target="weight")
    raw, raw_test = splits(write(ROWS), target="weight", standardize=False)

    size = raw["input"][:, 0]
    expected = (raw_test["input"][:, 0] - size.mean()) / size.std(correction=0)
    torch.testing.assert_close(test["input"][:, 0], expected)
    assert torch.equal(train["input"][:, 1:], raw["input"][:, 1:])


def test_a_target_of_texts_is_a_class_and_one_of_numbers_when_asked(write: Write) -> None:
    spec = CsvTable(write(ROWS), target="colour", validation=0).read(0)
    assert (spec.class_names, spec.target.counts) == (("blue", "red"), (8, 8))
    path = write("a,y\n1,10\n2,9\n3,10\n4,9\n", "numbered.csv")
    numbered = CsvTable(path, target="y", kind="classification", test=0.5)
    assert numbered.read(0).class_names == ("9", "10")
    _, test = splits(write(ROWS), target="colour", features=["size"], standardize=False)
    assert torch.equal(test["target"], (test["input"][:, 0] % 2).long())


def test_iris_as_a_file_is_iris(write: Write) -> None:
    iris = load_iris()
    lines = [
        ",".join([*map(repr, map(float, row)), iris.target_names[target]])
        for row, target in zip(iris.data, iris.target, strict=True)
    ]
    path = write("a,b,c,d,species\n" + "\n".join(lines))
    csv = opened(CsvTable(path, target="species", batch_size=32), 3)
    bundled = opened(Iris(batch_size=32), 3)

    for name in ("train", "validation", "test"):
        found, expected = (whole(loaders[name]) for loaders in (csv, bundled))
        assert all(torch.equal(found[column], expected[column]) for column in expected)


def test_a_second_file_is_the_test_split(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    second = write("weight\tsize\tcolour\n5\t100\tgreen\n", "second.tsv")
    train, test = splits(write(ROWS), target="weight", test=second, standardize=False)

    assert len(train["input"]) == 20
    assert test["input"].tolist() == [[100, 0, 0]]
    assert "1 cells of 'colour' hold a level that no training row has" in caplog.text


@pytest.mark.parametrize(
    ("start", "is_told"),
    [(b"\x89PNG\r\n\x1a\n", "a PNG image"), (b"PK\3\4", ".xlsx"), (b"\x1f\x8b\x08", "gzip")],
)
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_what_is_no_text_is_called_what_it_is(
    start: bytes, is_told: str, name: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(start + bytes(range(256)))
    with pytest.raises(ValueError, match=f"{name} is no text: .*{is_told}"):
        CsvTable(str(tmp_path / name), target="y").read(0)


def test_nothing_is_said_of_columns_that_there_are_not(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        splits(write(ROWS), target="weight", standardize=False)

    assert "beside the features" not in caplog.text


def test_quotes_byte_order_marks_and_empty_lines_are_read(write: Write) -> None:
    text = '\ufeff"a, b",y\r\n"1",two\r\n\r\n" 3 ","four\nfive"\r\n5,two\r\n7,"four\nfive"\r\n'
    source = CsvTable(write(text), target="y", test=0.5)
    spec = source.read(0)
    assert spec.class_names == ("four\nfive", "two")
    assert spec.input.names == ("a, b",)


HOLES = "a,b,y\n1,u,1\n2,,2\n,v,3\n4,u,4\n5,u,5\nNA,v,6\n7,v,7\n8,u,8\n9,u,9\n10,u,10\n"


def test_missing_cells_are_refused_unless_told_otherwise(write: Write) -> None:
    with pytest.raises(ValueError, match=r"table.csv, line 3, column 'b' is empty, and 3 rows"):
        CsvTable(write(HOLES), target="y").read(0)


def test_rows_with_missing_cells_are_dropped_and_counted(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    train, test = splits(write(HOLES), target="y", missing="drop")
    assert len(train["input"]) + len(test["input"]) == 7
    assert "3 rows with missing values dropped" in caplog.text


def test_missing_cells_get_the_training_rows_mean(
    write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    second = write("a,b,y\n,,1\n", "second.csv")
    path = write(HOLES)
    train, test = splits(path, target="y", missing="mean", test=second, standardize=False)

    assert "2 in 'a' ('', 'NA'), 1 in 'b'" in caplog.text
    # Of the numbers 1 2 4 5 7 8 9 10; and of six u and three v.
    torch.testing.assert_close(test["input"], torch.tensor([[5.75, 6 / 9, 3 / 9]]))
    torch.testing.assert_close(train["input"][2], torch.tensor([5.75, 0.0, 1.0]))


def test_the_filling_mean_is_not_that_of_the_validation_split(write: Write) -> None:
    path = write(HOLES)
    second = write("a,b,y\n,u,1\n", "second.csv")
    settings: dict[str, Any] = {"missing": "mean", "test": second, "standardize": False}
    filled = splits(path, target="y", **settings)[1]["input"][0, 0]
    partly = splits(path, target="y", **settings, validation=5)[1]["input"][0, 0]
    assert filled != partly


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("", {}, r"table.csv is empty"),
        ("a,y\n", {}, r"table.csv has a header but no row"),
        ("a,a,y\n1,2,3\n", {}, r"line 1: two columns are named 'a'"),
        (",y\n1,2\n", {}, r"no column beside the target"),
        ("a,y\n1,2\n1,2,3\n", {}, r"line 3: 3 cells, but the header names 2 columns"),
        ('a,y\n"1\n2",1\n1\n', {}, r"line 4: 1 cells"),
        ('a,y\n"1,2\n', {}, r"line \d: unexpected end of data"),
        (b"a,y\n\xff\xfe,2\n", {}, r"table.csv, line 2, is not UTF-8 text"),
        (b"a,y\nu,2\nv\0,3\n", {}, r"table.csv, line 3, has a NUL byte"),
        ("a,y\nu,2\nv\0,3\n".encode("utf-16"), {}, r"table.csv, line 3, has a NUL byte"),
        ("a,y\n1,2\n3,4\n", {"target": "z"}, r"no column 'z'. It has a, y\."),
        ("a,colour\n1,2\n", {"target": "color"}, r"no column 'color'. Did you mean 'colour'\?"),
        ("a,y\n1,2\n3,4\n", {"features": ["b"]}, r"no column 'b'"),
        ("a,y\n1,2\n3,4\n", {"features": ["a", "y"]}, r"'y' is among the features"),
        ("a,y\n1,2\n3,4\n", {"categorical": ["c"]}, r"no column 'c'"),
        ("y\n1\n2\n", {}, r"no column beside the target"),
        ("a,y\n1,2\n3,2\n", {}, r"the target 'y' has one value, '2'"),
        ("a,y\n1,u\n3,u\n", {}, r"the target 'y' has one value, 'u'"),
        ("a,y\n1,2\nx,3\n5,6\n", {}, r"line 3, column 'a': 'x' is not a number, but 2 of 3"),
        ("a,y\n1,2\ninf,3\n5,6\n", {}, r"line 3, column 'a': 'inf' is not a \(finite\) number"),
        ("a,y\n1,2\n1_0,3\n", {}, r"line 3, column 'a': '1_0' is not a number"),
        ("a,y\n1,2\n3,x\n", {"kind": "regression"}, r"line 3, column 'y': 'x' is not a number"),
        (
            "a,y\n1,2\n3,nan\n",
            {"missing": "mean"},
            r"column 'y' counts as missing: it holds 'nan', and a",
        ),
        ("a,y\n1,\n3,\n", {"missing": "drop"}, r"every row has a missing value"),
        ("a,y\nu,1\nv,2\nw,3\n", {"max_levels": 2, "test": 0.1}, r"'a' has 3 different texts"),
        ("a,y\n1,2\n3,4\n", {"test": 0.1}, r"no row is left for the test split"),
        ("a,y\n1,2\n3,4\n", {"test": 1.5}, r"test is a fraction between 0 and 1"),
    ],
)
def test_each_fault_is_one_message_with_its_place(
    text: str | bytes, settings: dict[str, Any], message: str, write: Write
) -> None:
    with pytest.raises(ValueError, match=message):
        CsvTable(**{"path": write(text), "target": "y", "test": 0.5} | settings).read(0)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("a,y\n1,green\n", r"second.csv, line 2, column 'y': the training split has no class"),
        ("b,y\n1,red\n", r"second.csv has no column 'a'"),
        ("a,y\n", r"second.csv has a header but no row"),
    ],
)
def test_a_second_file_must_fit_the_first(second: str, message: str, write: Write) -> None:
    path = write("a,y\n1,red\n2,blue\n")
    with pytest.raises(ValueError, match=message):
        CsvTable(path, target="y", test=write(second, "second.csv")).read(0)


def test_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.csv cannot be read: No such file"):
        CsvTable("none.csv", target="y", root=str(tmp_path)).read(0)


def test_the_command_line_trains_on_a_table_of_either_kind(write: Write, train: Train) -> None:
    path = f"data.path={write(ROWS)}"
    options = ("data=csv", "model=mlp", path, "trainer.epochs=2")
    assert "r2" in train(*options, "data.target=weight").summary["test"]
    assert "accuracy" in train(*options, "data.target=colour").summary["test"]


def test_a_faulty_table_is_one_line_and_no_traceback(write: Write, typed: Cli) -> None:
    done = typed("data=csv", "model=mlp", f"data.path={write(ROWS)}", "data.target=wieght")
    assert done.returncode == 2
    assert "data: " in done.stderr and "Did you mean 'weight'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_label_smoothing_is_refused_for_a_number(write: Write, compose: Compose) -> None:
    options = ("data=csv", "model=mlp", "regularizer=label_smoothing", "data.target=weight")
    with pytest.raises(ValueError, match=r"task\.label_smoothing needs classes"):
        assembled(compose(*options, f"data.path={write(ROWS)}", "device=cpu"))


def test_a_trained_table_predicts_when_its_file_is_gone(write: Write, train: Train) -> None:
    path = write(ROWS)
    folder = train("data=csv", f"data.path={path}", "data.target=weight", "model=linreg").folder
    Path(path).unlink()
    said = dltrain.load(folder).predict({"input": torch.zeros(2, 3)})
    assert said.tensors["prediction"].shape == (2, 1)


def test_a_loaded_run_takes_examples_as_they_are(write: Write, train: Train) -> None:
    path = write(ROWS)
    folder = train("data=csv", f"data.path={path}", "data.target=weight", "model=linreg").folder
    with Path(path).open(newline="") as file:
        rows = list(csv.DictReader(file))
    run = dltrain.load(folder)
    read = run.predict(reader_of_run(folder).read(rows)).tensors["prediction"]
    for raw in (rows, path, Path(path), [path]):
        assert torch.equal(run.predict(raw).tensors["prediction"], read)
    assert torch.equal(run.predict(rows[1]).tensors["prediction"], read[1:2])
    with pytest.raises(ValueError, match="a text does not exist; a table is a file"):
        run.predict("a text")
    with pytest.raises(ValueError, match="row 2"):
        run.predict([rows[0], {"weight": "3"}])


def test_prices_are_learned_whatever_their_unit(write: Write, train: Train) -> None:
    rows = "".join(f"{size},{150_000 + 2_000 * size}\n" for size in range(20, 220))
    path = write("size,price\n" + rows)
    trained = train("data=csv", f"data.path={path}", "data.target=price", "model=mlp")
    assert trained.summary["test"]["r2"] > 0.99
    predicted = dltrain.load(trained.folder).predict({"input": torch.zeros(1, 1)})
    assert 300_000 < predicted.tensors["prediction"].item() < 500_000
    rows = [line.split(",") for line in (trained.folder / "metrics.csv").read_text().splitlines()]
    first = next(row for row in rows if row[2:4] == ["train", "loss"])
    assert float(first[4]) > 1e6  # in the square of the price's unit, as all others


def test_a_chinese_table_is_told_what_it_is(write: Write) -> None:
    rows = "".join(f"{150 + i},{'男女'[i % 2]}\n" for i in range(20))
    path = write(f"身高,性别\n{rows}".encode("gb18030"))
    with pytest.raises(ValueError, match=r"what it is: if it is Chinese, data\.encoding=gb18030"):
        CsvTable(path, target="性别").read(0)
    assert CsvTable(path, target="性别", encoding="gb18030").read(0).complete
    path = write(f"身高,性别\n{rows}".replace(",", "，"))
    with pytest.raises(ValueError, match=r"It has 身高，性别\. Its commas are full-width"):
        CsvTable(path, target="性别").read(0)
    path = write(f"身高，性别\n{rows}")
    with pytest.raises(ValueError, match=r"names 1 columns\. Its commas are full-width"):
        CsvTable(path, target="性别").read(0)
    with pytest.raises(ValueError, match="one ASCII character"):
        CsvTable(path, target="性别", separator="，").read(0)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("höhe,größe\n1,2\n", "cp1252"),
        ("身長,名前\nあ,か\nたかし,はなこ\n", "shift_jis"),
        ("我們,臺灣\n這個,說話\n歡迎,學習\n", "big5"),
    ],
)
def test_other_encodings_are_not_taken_for_chinese(write: Write, text: str, encoding: str) -> None:
    with pytest.raises(ValueError, match=r"such as data\.encoding=cp1252"):
        CsvTable(write(text.encode(encoding)), target="a").read(0)
