"""Metrics of parts of a split, merged: what those of the whole split say."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Field
from dltrain.contracts.metric import Evaluation, Metric
from dltrain.contracts.task import Task
from dltrain.reports import boundary, classes, labels, numbers, probabilities, words
from dltrain.reports import forecasts as forecasting
from dltrain.tasks.classification import Classification
from dltrain.tasks.forecasting import Forecasting
from dltrain.tasks.multilabel import Multilabel
from dltrain.tasks.perceptron import Perceptron
from dltrain.tasks.regression import Regression
from dltrain.tasks.text import TextClassification
from tests import asking

EXAMPLES = 61
CLASSES = ["one", "two", "three"]
WORDS = [f"word {number}" for number in range(30)]
DRAWN = {
    boundary: ["draw_decision_boundary"],
    forecasting: ["draw_errors_by_step", "draw_forecasts"],
    classes: ["draw_confusion_matrix", "draw_predictions"],
    labels: ["draw_labels"],
    numbers: ["draw_fit", "draw_predicted_against_true", "draw_residuals"],
    probabilities: ["draw_calibration", "draw_rankings"],
    words: ["draw_attention"],
}


class Attentive(nn.Module):
    """A bag of words that weighs each by its id."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(len(WORDS), len(CLASSES), padding_idx=0)

    def forward(self, ids: Tensor) -> Tensor:
        return self.bag(ids)

    def attention_weights(self, ids: Tensor) -> Tensor | None:
        return ids / ids.sum(1, keepdim=True)


def images() -> tuple[Task, Batch]:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    spec = asking.classes(CLASSES, 3, 2, 2, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    targets = torch.randint(3, (EXAMPLES,))
    return Classification(model, spec), {"input": torch.randn(EXAMPLES, 3, 2, 2), "target": targets}


def points(kind: type[Classification]) -> tuple[Task, Batch]:
    spec = asking.classes(CLASSES, 2, names=("width", "height"))
    targets = torch.randint(3, (EXAMPLES,))
    return kind(nn.Linear(2, 3), spec), {"input": torch.randn(EXAMPLES, 2), "target": targets}


def several() -> tuple[Task, Batch]:
    target = Field((3,), "labels", "target", size=3, names=tuple(CLASSES))
    spec = DataSpec({"input": Field((4,), "number", "input"), "target": target})
    targets = torch.randint(2, (EXAMPLES, 3), dtype=torch.uint8)
    batch = {"input": torch.randn(EXAMPLES, 4), "target": targets}
    return Multilabel(nn.Linear(4, 3), spec), batch


def regression(features: int, outputs: int) -> tuple[Task, Batch]:
    # Far from 0 beside how much they vary, where naive sums of squares lose all digits.
    spec = asking.numbers(features, outputs=outputs, unit=(1e4, 3.0))
    inputs, targets = torch.randn(EXAMPLES, features), 1e4 + torch.randn(EXAMPLES, outputs)
    return Regression(nn.Linear(features, outputs), spec), {"input": inputs, "target": targets}


def texts() -> tuple[Task, Batch]:
    lengths = torch.randint(1, 12, (EXAMPLES, 1))
    ids = torch.randint(1, len(WORDS), (EXAMPLES, 11)).where(torch.arange(11) < lengths, 0)
    task = TextClassification(Attentive(), asking.texts(WORDS, CLASSES))
    return task, {"input": ids, "target": torch.randint(3, (EXAMPLES,))}


def forecasts() -> tuple[Task, Batch]:
    source = Field((6, 3), "number", "input", names=("a", "b", "c"))
    target = Field(
        (4, 2), "number", "target", names=("a", "b"), mean=(1.0, 2.0), std=(2.0, 3.0), period=3
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 8))
    task = Forecasting(model, DataSpec({"input": source, "target": target}))
    batch = {"input": torch.randn(EXAMPLES, 6, 3), "target": torch.randn(EXAMPLES, 4, 2).double()}
    return task, batch


CASES: dict[str, Callable[[], tuple[Task, Batch]]] = {
    "images": images,
    "points": lambda: points(Classification),
    "several labels": several,
    "perceptron": lambda: points(Perceptron),
    "regression": lambda: regression(4, 3),
    "one feature": lambda: regression(1, 1),
    "texts": texts,
    "forecasts": forecasts,
}


def split(batch: Batch, sizes: Sequence[int]) -> list[tuple[Tensor, Batch]]:
    """Batches of so many examples each, with their rows; ids padded no longer than they need."""
    parts = []
    for rows in torch.arange(EXAMPLES).split(list(sizes)):
        part = {name: column[rows] for name, column in batch.items()}
        if not part["input"].is_floating_point():
            longest = int((part["input"] != 0).sum(1).max())
            part["input"] = part["input"][:, :longest]
        parts.append((rows, part))
    return parts


PARTITIONS = [[1] * EXAMPLES, [7] * 8 + [5], [40, 21], [2, 59]]


def combined(metrics: Sequence[Metric]) -> Evaluation:
    evaluation = Evaluation()
    for metric in metrics:
        evaluation |= metric.compute()
    return evaluation


def reloaded(metric: Metric, into: Metric) -> Metric:
    """``into`` with the state of ``metric``, from a file that holds nothing but tensors."""
    file = io.BytesIO()
    torch.save(metric.state_dict(), file)
    file.seek(0)
    into.load_state_dict(torch.load(file, weights_only=True))
    return into


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Evaluation], dict[str, Any]]:
    """What each figure of an evaluation is drawn from."""
    calls: list[Any] = []
    for module, names in DRAWN.items():
        for name in names:
            monkeypatch.setattr(module, name, lambda *given: calls.append(given))

    def arguments(evaluation: Evaluation) -> dict[str, Any]:
        found = {}
        for name, draw in evaluation.figures.items():
            calls.clear()
            draw()
            (found[name],) = calls
        return found

    return arguments


def assert_alike(one: Any, other: Any) -> None:
    """Equal, numbers but for the order in which float32 sums are added."""
    if isinstance(one, (Tensor, np.ndarray)):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    elif isinstance(one, Mapping):
        assert list(one) == list(other)
        for name in one:
            assert_alike(one[name], other[name])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for mine, its in zip(one, other, strict=True):
            assert_alike(mine, its)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-7)
    else:
        assert one == other


@pytest.mark.parametrize("partition", range(len(PARTITIONS)))
@pytest.mark.parametrize("name", CASES)
def test_two_parts_of_a_split_merged_are_the_whole(
    name: str, partition: int, drawn: Callable[[Evaluation], dict[str, Any]]
) -> None:
    torch.manual_seed(0)
    task, batch = CASES[name]()
    task.eval()
    parts = split(batch, PARTITIONS[partition])
    with torch.inference_mode():
        whole = task.metrics(final=False)
        asking.gathered(task, whole, split(batch, [EXAMPLES]))
        one, other, loaded = (task.metrics(final=False) for _ in range(3))
        # Dealt out in turn, as to two processes; and the later part takes in the earlier.
        asking.gathered(task, one, parts[::2])
        asking.gathered(task, other, parts[1::2])
        loaded = [reloaded(*pair) for pair in zip(other, loaded, strict=True)]
        for mine, its in zip(loaded, one, strict=True):
            mine.merge(its)
        expected, found = combined(whole), combined(loaded)

    assert_alike(found.scalars, expected.scalars)
    for key, table in expected.tables.items():
        assert_alike(list(map(list, found.tables[key].rows)), list(map(list, table.rows)))
    assert found.texts == expected.texts
    assert_alike(drawn(found), drawn(expected))
    assert list(found.figures) == list(expected.figures)


@pytest.mark.parametrize("name", CASES)
def test_a_part_without_examples_adds_nothing(name: str) -> None:
    torch.manual_seed(1)
    task, batch = CASES[name]()
    task.eval()
    with torch.inference_mode():
        whole, empty, other = (task.metrics(final=True) for _ in range(3))
        asking.gathered(task, whole, split(batch, [EXAMPLES]))
        expected = combined(whole).scalars
        for mine, its, third in zip(whole, empty, other, strict=True):
            mine.merge(reloaded(its, third))
            its.merge(mine)

        assert combined(whole).scalars == combined(empty).scalars == expected


@pytest.mark.parametrize("name", CASES)
def test_a_metric_names_the_scalars_that_it_computes(name: str) -> None:
    torch.manual_seed(2)
    task, batch = CASES[name]()
    task.eval()
    with torch.inference_mode():
        metrics = task.metrics(final=False)
        asking.gathered(task, metrics, split(batch, [EXAMPLES]))
        for metric in metrics:
            assert list(metric.names) == list(metric.compute().scalars)
