"""``dltrain evaluate``: the run's own figures again, and those of other data."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dltrain
from dltrain.cli import dispatch
from dltrain.contracts.data import DataSpec, Field
from dltrain.errors import UserError
from dltrain.inference.evaluate import Targets
from tests.conftest import Train, Trained

STEPS = ("trainer.steps=4", "trainer.evaluate_steps=2")


def metrics(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict[str, float]:
    """What ``dltrain evaluate`` prints as JSON."""
    capsys.readouterr()
    assert dispatch(["evaluate", *map(str, words), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    "typed",
    [
        ("model=mlp", "data=digits", "modifier=ema"),
        ("model=lenet5", "data=digits", "trainer.precision=bfloat16", "trainer.test_weights=best"),
        ("model=linreg", "data=diabetes"),
        ("model=vae", "data=digits", "task.importance_samples=5"),
        ("model=gan", "data=digits"),
    ],
    ids=["ema", "best", "regression", "vae", "gan"],
)
def test_a_runs_own_splits_give_its_own_figures_to_the_last_digit(
    typed: tuple[str, ...], train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    done = train(*typed, *STEPS)
    for split in ("test", "validation"):
        if done.summary.get(split):
            words = (done.folder, "--split", split, "--no-files")
            assert metrics(capsys, *words) == done.summary[split]


def grey(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name) + value).integers(0, 40, (8, 8))
    Image.fromarray((noise + value).clip(0, 255).astype(np.uint8)).save(path)


@pytest.fixture
def images(train: Train, tmp_path: Path) -> Trained:
    """A classifier of dark, middle and bright images, nearly always right."""
    for value, name in ((0, "dark"), (100, "middle"), (200, "bright")):
        for number in range(20):
            grey(tmp_path / "own" / name / f"{number}.png", value)
    return train("model=mlp", "data=image_folder", f"data.path={tmp_path / 'own'}",
                 f"data.root={tmp_path}", "trainer.epochs=20", "optimizer.lr=0.01")  # fmt: skip


def test_another_folder_of_images_goes_by_the_names_of_its_classes(
    images: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Other images, of another size, of two classes, which have other numbers here.
    for number in range(10):
        grey(tmp_path / "other" / "middle" / f"{number}.png", 105)
        grey(tmp_path / "other" / "dark" / f"{number}.png", 5)
    data = ("data=image_folder", f"data.path={tmp_path / 'other'}", f"data.root={tmp_path}")
    found = metrics(capsys, images.folder, *data, "--split", "all", "--out", tmp_path / "out")
    assert found["accuracy"] == 1.0
    kept = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (kept["split"], kept["examples"], kept["metrics"]) == ("all", 20, found)
    assert (tmp_path / "out" / "figures" / "confusion_matrix.png").stat().st_size > 1000
    with (tmp_path / "out" / "tables" / "per_class.csv").open() as file:
        assert {row["class"] for row in csv.DictReader(file)} >= {"dark", "middle"}

    for number in range(5):
        grey(tmp_path / "other" / "brigth" / f"{number}.png", 210)
    words = [str(images.folder), *data, "--split", "all", "--no-files"]
    with pytest.raises(UserError, match=r"no class 'brigth'. Did you mean 'bright'\?.*--skip-unk"):
        dispatch(["evaluate", *words])
    assert metrics(capsys, *words, "--skip-unknown")["accuracy"] == 1.0


def test_its_own_data_elsewhere_is_its_own(
    images: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own").rename(tmp_path / "moved")
    found = metrics(capsys, images.folder, f"data.path={tmp_path / 'moved'}", "--no-files")
    assert found == images.summary["test"]
    run = dltrain.load(images.folder)
    again = run.evaluate(data=f"data.path='{tmp_path / 'moved'}'")
    assert (again.split, again.evaluation.scalars) == ("test", found)


def test_other_rows_are_read_as_the_training_rows_were(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{size},{'a' if size % 2 else 'b'},{3 * size + 7}" for size in range(100)]
    (tmp_path / "own.csv").write_text("\n".join(["size,kind,price", *lines]))
    done = train("model=linreg", "data=csv", f"data.path={tmp_path / 'own.csv'}",
                 "data.target=price", "trainer.epochs=300", "optimizer.lr=0.05")  # fmt: skip
    # Larger sizes and one kind alone: scaled by themselves they would look like the others.
    lines = [f"{size},{3 * size + 7},a" for size in range(200, 220)]
    (tmp_path / "other.csv").write_text("\n".join(["size,price,kind", *lines]))
    words = (done.folder, f"data.path={tmp_path / 'other.csv'}", "--no-files")
    for split, most in (("test", 25), ("all", 25)):
        assert metrics(capsys, *words, "--split", split)["rmse"] < most
    own = f"data.path={tmp_path / 'own.csv'}"
    with pytest.raises(UserError, match="target is a class, and this run's a number"):
        dispatch(["evaluate", str(done.folder), own, "data.target=kind"])
    with pytest.raises(UserError, match=r"data.pth: there is no such key. Did you mean 'path'\?"):
        dispatch(["evaluate", str(done.folder), "data.pth=x"])
    with pytest.raises(UserError, match=r"trainer\.epochs: only data=… and data.KEY=… can"):
        dispatch(["evaluate", str(done.folder), "trainer.epochs=3"])


def test_other_texts_are_read_by_the_runs_vocabulary(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(name: str, rows: list[tuple[str, str]]) -> str:
        path = tmp_path / name
        path.write_text("\n".join(["text,stars", *map(",".join, rows)]))
        return f"data.path={path}"

    own = write("own.csv", [("a good film", "five"), ("an awful film", "one")] * 30)
    fixed = ("data=text_csv", "data.text=text", "data.label=stars", "data.root=null")
    done = train("model=ngrams", own, *fixed, "trainer.epochs=30", "optimizer.lr=0.1")
    other = write("other.csv", [("awful awful", "one"), ("good and good", "five")] * 5)
    assert metrics(capsys, done.folder, other, *fixed, "--split", "all")["accuracy"] == 1.0
    assert "accuracy" in metrics(capsys, done.folder, other, *fixed)


def test_what_is_printed_and_where_it_goes(
    images: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(images.folder)
    capsys.readouterr()
    assert dispatch(["evaluate", run, "--split", "all", "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("own: 60 examples, best weights")
    assert said[-1] == f"tables and figures: {tmp_path / 'out'}"
    assert dispatch(["evaluate", run, "--csv", "--no-files", "--device", "cpu"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert {row["name"]: float(row["value"]) for row in rows} == images.summary["test"]
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--csv or --json, not both"):
        dispatch(["evaluate", run, "--csv", "--json"])
    with pytest.raises(UserError, match=r"--out: .* cannot be made"):
        dispatch(["evaluate", run, "--out", str(tmp_path / "file" / "in")])
    with pytest.raises(UserError, match="no such key"):
        dispatch(["evaluate", run, "data.augment.flap=1"])
    with pytest.raises(UserError, match="is no folder"):
        dispatch(["evaluate", run, f"data.path={tmp_path / 'file'}"])


def labels(*names: str) -> DataSpec:
    image = Field((1, 8, 8), "image", "input")
    target = Field((len(names),), "labels", "target", size=len(names), names=names)
    return DataSpec({"input": image, "target": target})


def test_labels_go_by_their_names() -> None:
    targets = Targets(labels("b", "a"), labels("a", "b", "c"), skip_unknown=False)
    found, kept = targets(torch.tensor([[1, 0], [1, 1]], dtype=torch.uint8))
    assert found.tolist() == [[0, 1, 0], [1, 1, 0]]
    assert kept.all()
    with pytest.raises(UserError, match=r"no class 'd'\. It has a, b\."):
        Targets(labels("a", "d"), labels("a", "b"), skip_unknown=True)(torch.ones(1, 2))
