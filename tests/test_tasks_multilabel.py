"""Several labels an example: the loss, the ratios, and images whose labels a table has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn import metrics
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec, Field
from dltrain.data.images.image_folder import ImageFolder
from dltrain.reports.canvas import png
from dltrain.tasks.classification import Classification
from dltrain.tasks.multilabel import Multilabel
from dltrain.tasks.supervised import Supervised
from tests.asking import classes, evaluated
from tests.streams import opened, whole

NAMES = ("blue", "green", "red", "never")


def spec(names: tuple[str, ...] = NAMES) -> DataSpec:
    target = Field((len(names),), "labels", "target", size=len(names), names=names)
    return DataSpec({"input": Field((5,), "number", "input"), "target": target})


def examples(count: int = 200) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(count, 5, generator=generator)
    noise = torch.randn(count, 4, generator=generator)
    targets = (inputs[:, :4] + noise > torch.tensor([0.5, 0.0, -0.5, 99.0])).to(torch.uint8)
    return inputs, targets


def test_ratios_are_those_of_scikit_learn() -> None:
    inputs, targets = examples()
    task = Multilabel(nn.Linear(5, 4), spec(), threshold={"red": 0.7, "blue": 0.3})
    evaluation = evaluated(task, [{"input": inputs, "target": targets}])
    said = task.predict({"input": inputs})
    scores, labels = said.columns["probability"].numpy(), said.columns["labels"].numpy()
    np.testing.assert_array_equal(labels, scores >= np.array([0.3, 0.5, 0.7, 0.5]))

    true, mean = targets.numpy(), evaluation.scalars
    f1 = {kind: metrics.f1_score(true, labels, average=kind) for kind in ("micro", "macro")}
    assert mean["f1_micro"] == pytest.approx(f1["micro"], abs=1e-9)
    assert mean["f1_macro"] == pytest.approx(f1["macro"], abs=1e-9)  # "never" is said, and wrong
    assert mean["subset_accuracy"] == pytest.approx(metrics.accuracy_score(true, labels))
    assert mean["hamming_loss"] == pytest.approx(metrics.hamming_loss(true, labels))
    assert mean["map"] == pytest.approx(
        metrics.average_precision_score(true[:, :3], scores[:, :3], average="macro"), abs=1e-6
    )
    expected = functional.binary_cross_entropy(torch.tensor(scores), targets.float())
    assert mean["loss"] == pytest.approx(float(expected), abs=1e-5)
    columns = metrics.precision_recall_fscore_support(true, labels, zero_division=0)
    table = evaluation.tables["per_label"]
    assert [row[0] for row in table.rows] == list(NAMES)
    for place, column in enumerate(columns[:3], 1):
        np.testing.assert_allclose([row[place] for row in table.rows], column)
    assert [row[-1] for row in table.rows] == [0.3, 0.5, 0.7, 0.5]
    assert png(evaluation.figures["per_label"]()).startswith(b"\x89PNG")


def test_it_learns_and_supervised_is_it_for_such_data() -> None:
    inputs, targets = examples()
    torch.manual_seed(0)
    task = Supervised(nn.Linear(5, 4), spec())
    weights = list(task.parameters())

    def optimize(loss: Tensor, name: str = "model") -> None:
        with torch.no_grad():
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight -= 5 * slope

    batch = {"input": inputs, "target": targets}
    before = evaluated(task, [batch]).scalars
    for _ in range(60):
        task.train_step(batch, optimize)
    after = evaluated(task, [batch]).scalars
    assert after["loss"] < 0.4 < before["loss"] and after["map"] > 0.8
    assert task.monitor.name == "map"


def test_what_cannot_be_is_refused() -> None:
    model = nn.Linear(5, 4)
    with pytest.raises(ValueError, match="no label 'rad', but blue, green"):
        Multilabel(model, spec(), threshold={"rad": 0.5})
    with pytest.raises(ValueError, match="between 0 and 1, got 1"):
        Multilabel(model, spec(), threshold=1.0)
    with pytest.raises(ValueError, match="of another kind: class"):
        Multilabel(model, classes("abc", 5))
    with pytest.raises(ValueError, match="of another kind: labels"):
        Classification(model, spec())
    with pytest.raises(ValueError, match="mirrored needs classes"):
        Supervised(model, spec(), mirrored=True)
    with pytest.raises(ValueError, match="threshold needs labels"):
        Supervised(model, classes("abc", 5), threshold=0.3)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Twelve images, each of a value of its own."""
    folder = tmp_path / "images" / "deep"
    folder.mkdir(parents=True)
    for number in range(12):
        Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4) + 20 * number).save(
            folder / f"{number}.png"
        )
    return tmp_path / "images"


def source(place: Path, rows: list[str], head: str = "file,label", **more: Any) -> ImageFolder:
    table = place.parent / "labels.csv"
    table.write_text("\n".join([head, *rows]), encoding="utf-8")
    given: dict[str, Any] = {"root": str(place.parent / "own"), "validation": 0, "test": 0.25}
    given |= {"mean": [0.0], "std": [1.0], "labels": str(table)}
    return ImageFolder(str(place), **given | more)


def values(data: ImageFolder) -> dict[int, Any]:
    """By an image's number, its target."""
    found = {}
    for stream in opened(data).values():
        batch = whole(stream)
        numbers = (255 * batch["input"][:, 0, 0, 0] / 20).round().int().tolist()
        found |= dict(zip(numbers, batch["target"].tolist(), strict=True))
    return found


def test_a_table_gives_each_image_its_labels(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = ["deep/0.png,b|a", "1.png, c ", "2,", "deep\\3.png,a|c|a", "none.png,a"]
    rows += [f"{number}.png,b" for number in range(4, 11)]
    data = source(place, rows)
    assert not data.outline().of("target")
    known = data.read(0)
    assert (known.target.kind, known.target.names) == ("labels", ("a", "b", "c"))
    assert known.facts()["outputs"] == 3 and len(known.target.counts) == 3
    found = values(data)
    assert [found[n] for n in range(5)] == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [1, 0, 1], [0, 1, 0]]
    assert sorted(found) == list(range(11))
    assert "rows of labels.csv without a file 1 (none.png)" in caplog.text
    assert "in no row of labels.csv 1 (11.png)" in caplog.text


def test_one_label_an_image_is_a_class(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [f"{number};{'dog' if number % 2 else 'cat'}" for number in range(11)] + ["11;"]
    data = source(place, rows, head="Image;Class")
    known = data.read(0)
    assert known.target.kind == "class" and known.class_names == ("cat", "dog")
    assert values(data) == {number: number % 2 for number in range(11)}
    assert "without a label in labels.csv 1 (11.png)" in caplog.text


def test_tables_have_the_splits_of_the_folders(place: Path) -> None:
    for split, numbers in (("train", range(8)), ("test", range(8, 12))):
        (place / split).mkdir()
        for number in numbers:
            (place / "deep" / f"{number}.png").rename(place / split / f"{number}.png")
    streams = opened(source(place, [f"{number},{'ab'[number % 2]}" for number in range(12)]))
    assert {name: stream.examples for name, stream in streams.items()} == {"train": 8, "test": 4}
    with pytest.raises(ValueError, match="the test split has the label 'c', which no training"):
        source(place, [f"{number},{'abc'[number // 4]}" for number in range(12)]).read(0)


@pytest.mark.parametrize(
    ("rows", "head", "message"),
    [
        (["0,a"], "name,kind", "needs the columns file and label; it has name, kind"),
        (["0,a", "0.png,b"], "file,label", r"line 3: 0\.png is in line 2 too"),
        (["0,a", "1"], "file,label", "line 3: 1 cells, but the header names 2"),
        (["none,a"], "file,label", "names no image that is in"),
        (["0,a", "1,a"], "file,label", "less than two labels"),
    ],
)
def test_tables_that_are_none_are_refused(
    rows: list[str], head: str, message: str, place: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        source(place, rows, head).read(0)


def test_labels_come_from_a_table_or_from_folders(place: Path) -> None:
    with pytest.raises(ValueError, match="from a file or from the folders"):
        source(place, ["0,a"], classes=["a", "b"])
    with pytest.raises(ValueError, match=r"labels: none\.csv cannot be read: No such file"):
        source(place, ["0,a"], labels="none.csv").read(0)
