"""Tables in files of every kind, read alike; and as scikit-learn reads them."""

from __future__ import annotations

import csv
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from sklearn import datasets as bundled
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss, mean_squared_error
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import dltrain
from dltrain.config.compose import compose as composed
from dltrain.config.punctuation import with_quotes
from dltrain.data.tables.csv_file import CsvTable
from dltrain.data.tables.csv_text import Quotes, _quotes_in, read_csv
from dltrain.data.tables.files import read_table
from dltrain.runs.load import reader_of_run
from tests.conftest import Train
from tests.streams import opened, whole

Load = Callable[..., Any]


def frame() -> pd.DataFrame:
    """Numbers with holes, integers, words, truth values, dates; a target above 0."""
    generator = np.random.default_rng(0)
    count = 60
    numbers = generator.normal(size=count)
    numbers[5] = np.nan
    days = pd.date_range("2023-11-05", periods=count, freq="9D")
    size = generator.integers(0, 50, count)
    return pd.DataFrame(
        {
            "x": numbers,
            "size": size,
            "colour": [("red", "blue", None, "été")[i % 4] for i in range(count)],
            "sold": generator.random(count) > 0.5,
            "day": days,
            "y": 1000 + 10.0 * size,
        }
    )


def read(path: Path | str, **settings: Any) -> CsvTable:
    settings = {"target": "y", "missing": "mean", "validation": 0} | settings
    source = CsvTable(str(path), **settings)
    source.read(0)
    return source


def columns(source: CsvTable) -> dict[str, torch.Tensor]:
    streams = opened(source, 0)
    return {
        f"{split} {name}": column
        for split in ("train", "test")
        for name, column in whole(streams[split]).items()
    }


def test_a_table_is_the_same_in_every_kind_of_file(tmp_path: Path) -> None:
    table = frame()
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_csv(tmp_path / "semicolons.csv", index=False, sep=";", decimal=",")
    table.to_csv(tmp_path / "indexed.tsv", sep="\t", encoding="utf-16")
    table.to_csv(tmp_path / "western.txt", index=False, sep="|", encoding="latin-1")
    table.to_parquet(tmp_path / "t.parquet")
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True, date_format="iso")
    first = read(tmp_path / "t.csv")
    names = ("x", "size", "colour=blue", "colour=red", "colour=été", "sold", "day.year")
    assert first.feature_names[:7] == list(names)
    others: dict[str, dict[str, Any]] = {
        "semicolons.csv": {"decimal": ","},
        "indexed.tsv": {},
        "western.txt": {"encoding": "latin-1"},
        "t.parquet": {},
    }
    if importlib.util.find_spec("openpyxl"):
        table.to_excel(tmp_path / "t.xlsx", index=False)
        others["t.xlsx"] = {}
    for name, settings in others.items():
        found = columns(read(tmp_path / name, **settings))
        for key, expected in columns(first).items():
            assert torch.equal(found[key], expected), (name, key)
    # pandas writes ten digits there.
    lines = read(tmp_path / "t.jsonl", standardize=False)
    plain = read(tmp_path / "t.csv", standardize=False)
    for key, expected in columns(plain).items():
        torch.testing.assert_close(columns(lines)[key], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("load", [bundled.load_iris, bundled.load_diabetes, bundled.load_wine])
def test_features_are_those_of_scikit_learns_pipeline(
    load: Load, suffix: str, tmp_path: Path
) -> None:
    data = load(as_frame=True)
    words = [("a", "b", None)[i % 3] for i in range(len(data.data))]
    table = data.data.assign(word=words, constant=0.1, y=data.target)
    table.iloc[::7, 0] = np.nan
    half = len(table) // 2
    table = table.sample(frac=1, random_state=0)
    for name, rows in (("train", table[:half]), ("test", table[half:])):
        path = tmp_path / f"{name}.{suffix}"
        rows.to_parquet(path) if suffix == "parquet" else rows.to_csv(path, index=False)
    numbers = [name for name in table.columns if name not in ("word", "y")]
    pipeline = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
            ("words", OneHotEncoder(categories=[["a", "b"]], handle_unknown="ignore"), ["word"]),
        ]
    )
    expected = pipeline.fit(table[:half]).transform(table[half:])
    source = read(tmp_path / f"train.{suffix}", test=str(tmp_path / f"test.{suffix}"))
    names = list(source.feature_names)
    places = [names.index(name) for name in (*numbers, "word=a", "word=b")]
    found = columns(source)["test input"].numpy()[:, places]
    known = table[half:]["word"].notna().to_numpy()
    np.testing.assert_allclose(found[:, :-2], expected[:, :-2], atol=1e-6)
    # Where there is no word we have the levels' frequencies, and the encoder 0.
    np.testing.assert_array_equal(found[known, -2:], expected[known, -2:])


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes"])
def test_figures_are_scikit_learns(name: str, tmp_path: Path, train: Train) -> None:
    data = getattr(bundled, f"load_{name}")(as_frame=True)
    of_classes = "target_names" in data
    target = data.target.map(("a", "b").__getitem__) if of_classes else data.target
    table = data.data.assign(y=target).sample(frac=1, random_state=0)
    half = len(table) // 2
    for split, rows in (("train", table[:half]), ("test", table[half:])):
        rows.to_parquet(tmp_path / f"{split}.parquet", index=False)
    scaler = StandardScaler().fit(table[:half].drop(columns="y"))
    inputs, tested = (scaler.transform(t.drop(columns="y")) for t in (table[:half], table[half:]))
    answers, truth = table["y"][:half], table["y"][half:]
    fitted = (LogisticRegression() if of_classes else LinearRegression()).fit(inputs, answers)
    weight, bias = np.atleast_2d(fitted.coef_), np.atleast_1d(fitted.intercept_)
    if of_classes:
        expected = {
            "accuracy": fitted.score(tested, truth),
            "loss": log_loss(truth, fitted.predict_proba(tested)),
        }
    else:
        weight, bias = weight / answers.std(), (bias - answers.mean()) / answers.std()
        expected = {
            "r2": fitted.score(tested, truth),
            "mse": mean_squared_error(truth, fitted.predict(tested)),
        }
    own = {"model.linear.weight": weight, "model.linear.bias": bias}
    weights = {key: torch.tensor(value).float() for key, value in own.items()}
    torch.save(weights, tmp_path / "weights.pt")
    done = train(
        *("data=csv", f"data.path={tmp_path}/train.parquet", f"data.test={tmp_path}/test.parquet"),
        *("data.target=y", f"model={'logreg' if of_classes else 'linreg'}", "data.validation=0"),
        *(f"init_from={tmp_path}/weights.pt", "optimizer=sgd", "optimizer.lr=0"),
        "trainer.steps=1",
    )
    for figure, value in expected.items():
        assert done.summary["test"][figure] == pytest.approx(value, rel=1e-6)


def test_new_rows_give_the_runs_own_figure_to_the_last_digit(tmp_path: Path, train: Train) -> None:
    table = frame()
    path, second = tmp_path / "train.csv", tmp_path / "test.csv"
    table[:40].to_csv(path, index=False)
    rows = table[40:].assign(colour=["green", None] * 10)
    rows.to_csv(second, index=False)
    done = train(
        *("data=csv", f"data.path={path}", f"data.test={second}", "data.target=y", "model=linreg"),
        *("data.missing=mean", "data.target_transform=log", "trainer.epochs=3"),
    )
    with second.open() as file:
        raw = list(csv.DictReader(file))
    said = dltrain.load(done.folder).predict(reader_of_run(done.folder).read(raw))
    predicted = said.tensors["prediction"].flatten()
    assert (predicted > 0).all()
    errors = predicted.double() - torch.tensor([float(row["y"]) for row in raw]).double()
    assert float(errors.square().mean()) == pytest.approx(done.summary["test"]["mse"], rel=1e-12)
    report = list(csv.DictReader((done.folder / "tables" / "data.csv").open()))
    assert [row["column"] for row in report] == list(table.columns)
    kinds = ["number", "number", "category", "true or false", "date (%Y-%m-%d)", "number"]
    assert [row["type"] for row in report] == kinds
    assert (report[0]["missing"], report[2]["most"][:8]) == ("1", "red: 10;")
    assert report[-1]["use"] == "target"


def test_what_a_table_holds_is_said_before_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "t.csv"
    lines = (f"{i},{i},k{i},{i / 3},{'ab'[i % 2]},{'uv'[i % 2]}" for i in range(20))
    path.write_text("\n".join([",Unnamed: 0,name,x,w,y", *lines]))
    with caplog.at_level("INFO", "dltrain"):
        read(path)
    for said in (
        "left out: '(column 1)': it has no name, 'Unnamed: 0': it has no name",
        "20 rows; features: 2 categories (name: 20 levels, w: 2 levels); 1 number (x)",
        "target 'y': 2 classes: u 10, v 10",
        "every value of 'name' differs. If these are identifiers, leave them out: data.exclude=[na",
    ):
        assert said in caplog.text
    caplog.clear()
    assert read(path, exclude=["name"]).feature_names == ["x", "w=a", "w=b"]
    assert "differs" not in caplog.text
    with pytest.raises(ValueError, match=r"no column 'nane'. Did you mean 'name'"):
        read(path, exclude=["nane"])


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("x;y\n1,5;2\n3,5;4\n", ["1,5", "2"]),
        ("x\ty\n1\t2\n", ["1", "2"]),
        ("x|y\n1|2\n", ["1", "2"]),
        ("sep=;\nx;y\n1;2\n", ["1", "2"]),
        ("x,y\n1;5,2\n", ["1;5", "2"]),
        ('x, y\n"1", "2, 3"\n', ["1", "2, 3"]),
        ("x;y\n1;5,2\n7,1;8\n", ["1", "5,2"]),
    ],
)
def test_separators_are_found(text: str, first: list[str], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    table = read_table(path)
    assert [column[0].as_py().strip() for column in table.columns.values()] == first
    cells = read_csv(path)
    assert [column[0] for column in cells.columns.values()] == first


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x,y\n1,2\n", Quotes()),
        ('"x",y\n"a ""b"" c, d",2\n"",ef', Quotes()),
        ('x,y\n1,"e\nf"', Quotes(multiline=True)),
        ('x,y\n1,"e\rf"', Quotes(multiline=True)),
        ('x,y\n"a"b,2\n', Quotes(sound=False)),
        ('x,y\n5" pipe,2', Quotes(sound=False)),
        ('x,y\n1, "a"\n', Quotes(spaced=True, sound=False)),
        ('x,y\n1,"a\n\n\nb\n', Quotes(sound=False, multiline=True)),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1 << 20])
def test_quotes_out_of_their_place_are_seen_across_blocks(
    text: str, found: Quotes, size: int
) -> None:
    content = text.encode()
    blocks = (content[start : start + size] for start in range(0, len(content), size))
    assert _quotes_in(blocks, ",") == found


def test_quotes_behind_a_blank_and_lines_in_quotes_keep_their_places(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('x, w, y\n1, "a, b", 2\n\n3, "a\nb", 4\n5, "a, b", oops\n')
    with pytest.raises(ValueError, match=r"line 6, column 'y': 'oops' is not a number, but 2 of 3"):
        read(path)
    path.write_text('x,y\n"1"x,2\n')
    with pytest.raises(ValueError, match=r"t\.csv, line 2: ',' expected after '\"'"):
        read(path)


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        ("x,y\n1,é\n".encode("latin-1"), {}, r"line 2, is not UTF-8 text.*data\.encoding=cp1252"),
        ("x,y\n1,2\n".encode("utf-16-le"), {}, r"zero byte.*data\.encoding=utf-16-le"),
        (b"x,y\n1,2\n", {"encoding": "utf-7000"}, "encoding: Python knows no 'utf-7000'"),
        (b"x,y\n1,2\n", {"encoding": "base64"}, "encoding: Python knows no 'base64'"),
        (b"x,y\n1,2\n", {"separator": "semi"}, "separator is one ASCII character, or one of comma"),
    ],
)
def test_text_that_cannot_be_read_is_told_how(
    content: bytes, settings: dict[str, str], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_table(path, **settings)


def test_files_of_other_kinds_that_are_none_are_refused(tmp_path: Path) -> None:
    for name, message in (
        ("t.parquet", "is no Parquet file"),
        ("t.jsonl", "is no file of JSON lines"),
        ("t.xlsx", "is no Excel file|openpyxl"),
        ("none.parquet", "cannot be read"),
        ("none.jsonl", "cannot be read: No such file"),
    ):
        if not name.startswith("none"):
            (tmp_path / name).write_text("x,y\n1,2\n")
        with pytest.raises(ValueError, match=message):
            read_table(tmp_path / name)
    table = pa.table({"x": [[1], [2]], "y": [1, 2]})
    pa.parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ValueError, match="column 'x' cannot be used: it holds list"):
        read(tmp_path / "t.parquet", features=["x"])


def test_a_mark_is_typed_as_it_is() -> None:
    typed = ["data=csv", "data.path=a", "data.target=y", "data.separator=;", "data.decimal=,"]
    config = composed(with_quotes([*typed, "data.thousands='", "model=mlp"]))
    found = [config["data"][name] for name in ("separator", "decimal", "thousands")]
    assert found == [";", ",", "'"]
