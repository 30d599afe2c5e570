"""Using a trained run: what ``dltrain predict`` and ``dltrain.load`` make of new examples."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import dltrain
from dltrain import training
from dltrain.cli import dispatch
from dltrain.config import compose as composition
from dltrain.contracts.data import Field
from dltrain.contracts.task import Predictions
from dltrain.data.images.reader import ImageReader
from dltrain.errors import UserError
from dltrain.inference.answers import Answers
from dltrain.inference.writers import FileWriter, LineWriter
from tests.making import edit

QUICK = ("trainer.steps=2", "callbacks=none", "device=cpu")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of images, texts and a table, in one folder of outputs."""
    root = tmp_path_factory.mktemp("inference")
    reviews = "review,stars\n" + "a good film,5\nan awful film,1\n" * 20
    (root / "reviews.csv").write_text(reviews)
    for name, *typed in (
        ("images", "model=mlp", "data=digits"),
        ("texts", "model=ngrams", "data=text_csv", f"data.path={root / 'reviews.csv'}",
         "data.text=review", "data.label=stars", f"data.root={root}"),
        ("rows", "model=linreg", "data=diabetes"),
        ("reconstructions", "model=autoencoder", "data=digits"),
    ):  # fmt: skip
        config = composition.compose([*QUICK, f"name={name}", *typed])
        training.train({**config, "output_dir": str(root / "outputs")})
    return root


def predicted(runs: Path, capsys: pytest.CaptureFixture[str], run: str, *words: str | Path) -> str:
    """What the command prints."""
    outputs = str(runs / "outputs")
    assert dispatch(["predict", run, *map(str, words), "--output-dir", outputs]) == 0
    return capsys.readouterr().out


def image(path: Path, value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((12, 9), value, np.uint8)).save(path)
    return path


def test_images_come_as_files_folders_patterns_and_a_list_on_stdin(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = image(tmp_path / "in" / "a.png"), image(tmp_path / "in" / "deep" / "b.png", 0)
    (tmp_path / "in" / "notes.txt").write_text("no image")
    found = {}
    for word in (tmp_path / "in", f"{tmp_path}/in/**/*.png"):
        rows = list(csv.DictReader(io.StringIO(predicted(runs, capsys, "images", word, "--csv"))))
        assert [row["image"] for row in rows] == [str(one), str(two)]
        found[str(word)] = rows
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{one}\n{two}\n"))
    rows = list(csv.DictReader(io.StringIO(predicted(runs, capsys, "images", "-", "--csv"))))
    assert all(rows == others for others in found.values())
    assert list(rows[0]) == ["image", *("class", "probability"), *("class_2", "probability_2"),
                             *("class_3", "probability_3")]  # fmt: skip


def test_ink_on_paper_is_doubted_where_the_run_saw_light_on_dark(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from sklearn.datasets import load_digits

    reader = ImageReader(1, 8, 8, [0.305], [0.376])
    digits = [image.astype(np.uint8).reshape(8, 8) * 15 for image in load_digits().data[:200]]
    reader.read(digits)
    assert not caplog.text
    Image.fromarray(255 - digits[0]).save(tmp_path / "seven.png")
    reader.read([digits[0], tmp_path / "seven.png"])
    reader.read([255 - digits[1]])
    (record,) = caplog.records
    said = record.getMessage()
    assert re.search(r"^.*seven\.png has a mean of 0\.\d\d .* one of 0\.30", said)


def test_texts_come_as_words_lines_and_rows(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lines.txt").write_text("a good film\n\n好电影\n", encoding="utf-8")
    lines = predicted(runs, capsys, "texts", "an awful film", tmp_path / "lines.txt", "--json")
    rows = [json.loads(line) for line in lines.splitlines()]
    assert [row["text"] for row in rows] == ["an awful film", "a good film", "", "好电影"]
    assert {row["class"] for row in rows} <= {"1", "5"}
    of_rows = predicted(runs, capsys, "texts", runs / "reviews.csv", "--keep", "stars", "--csv")
    assert of_rows.splitlines()[0] == "text,stars,class,probability,class_2,probability_2"
    assert len(of_rows.splitlines()) == 41


def test_rows_come_as_any_kind_of_table_and_give_one_answer(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from sklearn.datasets import load_diabetes

    frame = load_diabetes(as_frame=True, scaled=False).data[:5]
    frame.columns = dltrain.load("rows", output_dir=runs / "outputs").spec.input.names
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "u.csv", index=False, sep=";")
    frame.to_parquet(tmp_path / "t.parquet")
    frame.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "t.json", orient="records")
    run = dltrain.load("rows", output_dir=runs / "outputs")
    right = run.predict(frame)["prediction"]
    for name in ("t.csv", "u.csv", "t.parquet", "t.jsonl", "t.json"):
        assert run.predict(tmp_path / name)["prediction"] == right, name
        for ending in (".csv", ".json", ".parquet"):
            out = tmp_path / f"out{ending}"
            said = predicted(runs, capsys, "rows", tmp_path / name, "--out", out)
            assert said == f"5 predictions in {out}\n"
            read: Any = {".csv": pd.read_csv, ".json": pd.read_json, ".parquet": pd.read_parquet}
            assert read[ending](out)["prediction"].tolist() == pytest.approx(right, rel=1e-14)


def test_an_excel_file_has_numbers_as_numbers_and_texts_as_they_are(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="pip install 'dltrain[excel]'")
    writer = FileWriter(tmp_path / "out.xlsx")
    writer.write({"text": ["很好", "=1+1"], "class": ["a", "b"], "probability": [0.25, math.nan]})
    writer.write({"text": ["a\x07b"], "class": ["a"], "probability": [1.0]})
    writer.close()
    sheet = openpyxl.load_workbook(tmp_path / "out.xlsx").worksheets[0]
    rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert rows == [["text", "class", "probability"], ["很好", "a", 0.25], ["=1+1", "b", None],
                    ["a\N{REPLACEMENT CHARACTER}b", "a", 1]]  # fmt: skip
    assert sheet["A3"].data_type == "s"  # no formula


def test_a_missing_package_leaves_no_empty_excel_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(UserError, match=r"needs openpyxl: pip install 'dltrain\[excel\]'"):
        FileWriter(tmp_path / "out.xlsx")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_read_is_named_and_what_came_before_is_kept(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = image(tmp_path / "a.png"), tmp_path / "b.png"
    bad.write_text("no image")
    out = tmp_path / "out.csv"
    words = ["predict", "images", str(good), str(bad), str(good), "--out", str(out)]
    words += ["--output-dir", str(runs / "outputs")]
    with pytest.raises(UserError, match=r"image 2, .*b.png.*1 predictions before it are in .*out"):
        dispatch(words)
    assert len(out.read_text().splitlines()) == 2
    assert dispatch([*words, "--skip-unreadable"]) == 0
    assert len(out.read_text().splitlines()) == 3
    for typed, said in (
        ([*words[:-4], "--top", "0", *words[-2:]], "--top is a whole number from 1, or all; got 0"),
        ([*words[:2], *words[-2:]], "give an INPUT"),
        ([*words, "--keep", "id"], "--keep id: the input has no columns"),
        (["predict", "rows", str(tmp_path / "no.csv"), *words[-2:]], "no.csv does not exist"),
        (["predict", "texts", str(bad), "--out", "a.txt", *words[-2:]], "ends in none of .csv"),
        (["predict", "reconstructions", str(good), "--csv", *words[-2:]], "give --out FOLDER"),
        (["predict", "images", str(good), "--out", "folder", *words[-2:]], "ends in none of .csv"),
        (["predict", "images", str(good), "--out", "one.png", *words[-2:]], "ends in none of .csv"),
    ):
        with pytest.raises(UserError, match=said):
            dispatch(typed)


def test_no_file_is_lost_to_a_mistake(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = image(tmp_path / "a.png"), tmp_path / "b.png"
    bad.write_text("no image")
    kept = tmp_path / "kept.csv"
    kept.write_text("mine\n")
    monkeypatch.chdir(tmp_path)
    for words, said in (
        (["images", str(bad), "--out", str(kept)], "image 1, .*b.png"),
        (["rows", str(kept), "--out", "kept.csv"], "--out kept.csv is read as an input"),
        (["images", str(good), "--figure", "a.png"], "--figure a.png is read as an input"),
        (["images", str(tmp_path), "--figure", "a.png"], "--figure a.png is read as an input"),
        (["images", "*.png", "--figure", "a.png"], "--figure a.png is read as an input"),
        (["images", ""], "an empty text names no image"),  # not every image of the working folder
    ):
        with pytest.raises(UserError, match=said):
            dispatch(["predict", *words, "--output-dir", str(runs / "outputs")])
        assert kept.read_text() == "mine\n"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "kept.csv"]


def test_an_empty_text_is_one_and_a_file_that_is_not_there_is_said_to_be_one(
    runs: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert len(predicted(runs, capsys, "texts", "", "--csv").splitlines()) == 2
    assert "1 of 1 texts have no token that the run knows" in caplog.text
    assert "is read as a text" not in caplog.text
    predicted(runs, capsys, "texts", "no/such/file.txt")
    assert "'no/such/file.txt' is read as a text: there is no such file" in caplog.text


def test_a_reader_that_does_not_fit_the_network_is_refused(runs: Path, tmp_path: Path) -> None:
    run = dltrain.load("images", output_dir=runs / "outputs").path
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    node = json.loads((run / "reader.json").read_text())
    for changes, said in (
        ({"height": 9}, r"'input' is of shape \(1, 9, 8\) an example, but .* with \(1, 8, 8\)"),
        ({"height": 10**9}, "reader.height is 1,000,000,000 and width 8: no image"),
        ({"std": [0.0]}, "reader.json: reader.std must be > 0"),
        ({"mean": [0.1, 0.2]}, "reader.json: reader.mean must be a list of 1, not of 2"),
        ({"window": [5]}, "reader.window must be two rising numbers"),
    ):
        edit(copy, "reader.json", json.dumps({**node, **changes}))
        with pytest.raises(UserError, match=said):
            dltrain.load(copy).predict([np.zeros((8, 8), np.uint8)])


def test_answers_that_are_images_go_to_a_folder(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [image(tmp_path / name / "a.png") for name in ("one", "other")]
    predicted(runs, capsys, "reconstructions", *given, "--out", tmp_path / "made")
    found = sorted((tmp_path / "made").iterdir())
    assert [path.name for path in found] == ["00001_a.png", "00002_a.png"]
    with Image.open(found[0]) as made:
        assert made.size == (8, 8)


@pytest.mark.parametrize(("run", "word"), [("images", "a.png"), ("texts", "a good film")])
def test_answers_are_drawn(
    run: str, word: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image(tmp_path / "a.png")
    given = tmp_path / word if word.endswith(".png") else word
    predicted(runs, capsys, run, given, "--figure", tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as drawn:
        assert min(drawn.size) > 50


def test_python_takes_what_the_command_takes_and_more(runs: Path, tmp_path: Path) -> None:
    run = dltrain.load("images", output_dir=runs / "outputs")
    path = image(tmp_path / "a.png", 200)
    pixels = np.full((12, 9), 200, np.uint8)
    answers = [
        run.predict(one)
        for one in (path, str(path), [path], tmp_path, Image.open(path), [pixels], pixels[None])
    ]
    assert all(torch.equal(a.tensors["probability"], answers[0].tensors["probability"])
               for a in answers)  # fmt: skip
    row = answers[0][0]
    assert list(row)[:2] == ["class", "probability"]
    assert row["probability"] == max(answers[0].tensors["probability"][0].tolist())
    assert not answers[0].tensors["probability"].requires_grad
    with pytest.raises(ValueError, match="may be one image or 12"):
        run.predict(np.zeros((12, 9, 3), np.uint8))
    with pytest.raises(ValueError, match="no example"):
        run.predict([])
    assert "Predictor(" in repr(run)
    assert "class" in repr(answers[0])


def test_answers_name_classes_labels_and_numbers() -> None:
    names = ("cat", "dog", "eel")
    said = Predictions(
        {
            "class": torch.tensor([1, 2]),
            "probability": torch.tensor([[0.2, 0.7, 0.1], [0.1, 0.3, 0.6]]),
            "labels": torch.tensor([[1, 0, 1], [0, 0, 0]]),
            "years": torch.tensor([[1990.5], [2001.0]], dtype=torch.float64),
            "place": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        },
        {
            "class": Field((), "class", size=3, names=names),
            "probability": Field((3,), "number", names=names),
            "labels": Field((3,), "labels", size=3, names=names),
            "years": Field((1,), "number"),
            "place": Field((2,), "number", names=("x", "y")),
        },
    )
    answers = Answers(said, top=2)
    assert answers[0] == {
        **{"class": "dog", "labels": "cat|eel", "years": 1990.5, "place[x]": 1.0, "place[y]": 2.0},
        **{"probability": pytest.approx(0.7), "class_2": "cat"},
        **{"probability_2": pytest.approx(0.2)},
    }
    assert answers["labels"] == ["cat|eel", ""]
    assert Answers(said, None)["probability[eel]"] == pytest.approx([0.1, 0.6])
    assert answers.to_pandas().shape == (2, 8)
    assert [len(Answers.joined([answers, answers])), len(answers[:1])] == [4, 1]


def test_lines_fit_the_width_with_wide_letters_too() -> None:
    from rich.cells import cell_len

    file = io.StringIO()
    writer = LineWriter(file, 40)
    writer.write({"text": ["一二三四五六七八九十" * 3, "a\nb"], "class": ["好", "坏"],
                  "probability": [0.5, 1e-7], "class_2": ["坏", "好"],
                  "probability_2": [0.25, 0.125]})  # fmt: skip
    lines = file.getvalue().splitlines()
    assert len(lines) == 3
    assert max(map(cell_len, lines)) <= 40
    assert "a b" in lines[2]
    assert "1e-07" in lines[2]
