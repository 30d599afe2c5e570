"""Metrics: what scikit-learn says of the same predictions, however they were batched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn

from dltrain.contracts.data import Batch
from dltrain.metrics.classification import classification_report, confusion_matrix
from dltrain.metrics.history import History
from dltrain.metrics.regression import Errors
from dltrain.tasks.classification import Classification
from dltrain.tasks.regression import Regression
from tests.asking import answers, classes, evaluated, numbers

CLASSES = 5


def labels(seed: int, count: int = 203, never: tuple[int, ...] = ()) -> Tensor:
    """Labels of an unbalanced problem, in which the classes ``never`` do not occur."""
    generator = torch.Generator().manual_seed(seed)
    fractions = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
    fractions[list(never)] = 0
    return torch.multinomial(fractions, count, replacement=True, generator=generator)


def batched(columns: Batch, size: int) -> Iterator[Batch]:
    count = len(columns["target"])
    for low in range(0, count, size):
        yield {name: column[low : low + size] for name, column in columns.items()}


def r_squared(predictions: Tensor, targets: Tensor, size: int = 5) -> float:
    metric = Errors()
    for low in range(0, len(targets), size):
        some = slice(low, low + size)
        rows = torch.arange(len(targets))[some]
        metric.update({"output": predictions[some]}, {"target": targets[some]}, rows)
    return metric.compute().scalars["r2"]


# Which classes occur among the targets, and which are ever predicted, are different questions.
OCCURRENCES = [((), ()), ((4,), ()), ((), (3, 4)), ((4,), (4,)), ((0, 1), (2, 3))]


@pytest.mark.parametrize(("never_true", "never_predicted"), OCCURRENCES)
def test_classification_agrees_with_scikit_learn(
    never_true: tuple[int, ...], never_predicted: tuple[int, ...]
) -> None:
    targets, predicted = labels(0, never=never_true), labels(1, never=never_predicted)
    everything = list(range(CLASSES))
    confusion = confusion_matrix(predicted, targets, CLASSES)
    report = classification_report(confusion)

    assert np.array_equal(confusion, sk.confusion_matrix(targets, predicted, labels=everything))
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        targets, predicted, labels=everything, zero_division=0
    )
    assert report.precision == pytest.approx(precision)
    assert report.recall == pytest.approx(recall)
    assert report.f1 == pytest.approx(f1)
    assert report.support == support.tolist()
    assert report.accuracy == pytest.approx(sk.accuracy_score(targets, predicted))
    macro = sk.precision_recall_fscore_support(targets, predicted, average="macro", zero_division=0)
    found = (report.macro_precision, report.macro_recall, report.macro_f1)
    assert found == pytest.approx(macro[:3])


def test_a_class_that_never_occurs_counts_zero_and_is_left_out_of_the_means() -> None:
    targets = torch.tensor([0, 0, 1, 1])
    report = classification_report(confusion_matrix(targets, targets, 3))

    assert report.f1 == [1.0, 1.0, 0.0]
    assert report.support == [2, 2, 0]
    assert report.macro_f1 == 1.0


def test_all_wrong_is_zero_throughout() -> None:
    report = classification_report(
        confusion_matrix(torch.tensor([1, 1, 0]), torch.tensor([0, 0, 1]), 2)
    )

    assert (report.accuracy, report.macro_precision, report.macro_recall) == (0, 0, 0)
    assert report.macro_f1 == 0


@pytest.mark.parametrize("outputs", [1, 3])
def test_r_squared_agrees_with_scikit_learn(outputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randn(57, outputs, generator=generator) * 3 + 100
    predictions = targets + torch.randn(57, outputs, generator=generator)

    assert r_squared(predictions, targets) == pytest.approx(sk.r2_score(targets, predictions))
    useless = torch.randn(57, outputs, generator=generator)
    assert r_squared(useless, targets) == pytest.approx(sk.r2_score(targets, useless))


def test_r_squared_of_targets_that_do_not_vary_is_one_or_zero_as_in_scikit_learn() -> None:
    constant = torch.full((6, 1), 3.0)
    for predictions in (constant, constant + 1):
        expected = sk.r2_score(constant, predictions)
        assert r_squared(predictions, constant) == expected
    mixed_targets = torch.cat([constant, torch.arange(6.0)[:, None]], 1)
    mixed = mixed_targets + torch.tensor([0.0, 0.5])
    assert r_squared(mixed, mixed_targets) == pytest.approx(sk.r2_score(mixed_targets, mixed))


def test_r_squared_survives_targets_far_from_zero() -> None:
    targets = 1e6 + torch.arange(8.0)[:, None]

    assert r_squared(targets + 1, targets) == pytest.approx(sk.r2_score(targets, targets + 1))


@pytest.fixture
def classified() -> tuple[Classification, Batch]:
    torch.manual_seed(0)
    names = [f"class {number}" for number in range(CLASSES)]
    task = Classification(nn.Linear(6, CLASSES), classes(names, 6))
    return task, {"input": torch.randn(103, 6), "target": labels(0, 103, never=(2,))}


@pytest.mark.parametrize("size", [1, 7, 50, 103, 1000])
def test_a_classification_is_evaluated_alike_in_batches_of_any_size(
    classified: tuple[Classification, Batch], size: int
) -> None:
    task, columns = classified
    evaluation = evaluated(task, batched(columns, size))

    with torch.no_grad():
        logits = answers(task, columns["input"])
    targets, predicted = columns["target"], logits.argmax(1)
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        targets, predicted, average="macro", zero_division=0
    )
    assert evaluation.scalars == pytest.approx(
        {
            "loss": sk.log_loss(targets, logits.double().softmax(1), labels=range(CLASSES)),
            "accuracy": sk.accuracy_score(targets, predicted),
            "precision": precision,
            "recall": recall,
            "f1": f1,
        },
        rel=1e-6,
    )


def test_a_classification_tells_each_class_by_its_name(
    classified: tuple[Classification, Batch],
) -> None:
    task, columns = classified
    table = evaluated(task, batched(columns, 10)).tables["per_class"]

    assert tuple(table.columns) == ("class", "precision", "recall", "f1", "support")
    assert [row[0] for row in table.rows] == task.class_names
    assert [row[4] for row in table.rows] == columns["target"].bincount(minlength=5).tolist()


def test_label_smoothing_acts_in_training_only(classified: tuple[Classification, Batch]) -> None:
    task, columns = classified
    smooth = Classification(task.model, task.spec, label_smoothing=0.2)
    losses: list[Tensor] = []

    plain_step = task.train_step(columns, lambda loss, name="model": losses.append(loss))
    smooth_step = smooth.train_step(columns, lambda loss, name="model": losses.append(loss))

    with torch.no_grad():
        logs = answers(task, columns["input"]).log_softmax(1)
    plain = -logs.gather(1, columns["target"][:, None]).mean()
    expected = 0.8 * plain + 0.2 * -logs.mean()
    torch.testing.assert_close(losses[0], plain)
    torch.testing.assert_close(losses[1], expected)
    torch.testing.assert_close(smooth_step["loss"], expected)
    assert not plain_step["loss"].requires_grad
    one, other = (evaluated(some, batched(columns, 10)) for some in (smooth, task))
    assert one.scalars == other.scalars


@pytest.mark.parametrize("size", [1, 5, 31, 1000])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_regression_is_evaluated_alike_in_batches_of_any_size(size: int, outputs: int) -> None:
    torch.manual_seed(0)
    task = Regression(nn.Linear(4, outputs), numbers(4, outputs=outputs))
    columns = {"input": torch.randn(31, 4), "target": torch.randn(31, outputs)}

    evaluation = evaluated(task, batched(columns, size))

    with torch.no_grad():
        predictions = answers(task, columns["input"])
    targets = columns["target"]
    mse = sk.mean_squared_error(targets, predictions)
    expected = {
        "loss": mse,
        "mse": mse,
        "rmse": mse**0.5,
        "mae": sk.mean_absolute_error(targets, predictions),
        "r2": sk.r2_score(targets, predictions),
    }
    assert evaluation.scalars == pytest.approx(expected, rel=1e-5)


def test_training_means_weigh_a_ragged_batch_by_its_size() -> None:
    values, sizes = [1.0, 2.0, 6.0, 4.0, 8.0], [4, 4, 1, 4, 3]
    history = History()
    for value, size in zip(values[:3], sizes[:3], strict=True):
        history.add({"loss": torch.tensor(value)}, size)
    assert history.read() is None
    assert history.window() == {"loss": pytest.approx(np.average(values[:3], weights=sizes[:3]))}
    for value, size in zip(values[3:], sizes[3:], strict=True):
        history.add({"loss": torch.tensor(value)}, size)
    assert history.read() is None

    assert history.window() == {"loss": pytest.approx(np.average(values[3:], weights=sizes[3:]))}
    assert history.period() == {"loss": pytest.approx(np.average(values, weights=sizes))}
    history.clear()
    assert history.period() == {}


def test_the_first_value_that_is_not_finite_is_found_by_its_age() -> None:
    history = History()
    for value in (1.0, float("nan"), 1.0, float("inf"), 1.0):
        history.add({"accuracy": torch.tensor(1.0), "loss": torch.tensor(value)}, 1)

    assert history.read() == 3


def test_a_history_goes_on_from_its_state_as_if_never_left() -> None:
    def fill(history: History, values: list[float]) -> None:
        for value in values:
            history.add({"loss": torch.tensor(value), "accuracy": torch.tensor(0.5)}, 2)
        assert history.read() is None

    whole, first, second = History(), History(), History()
    fill(whole, [0.1, 0.2])
    fill(first, [0.1, 0.2])
    assert whole.window() == first.window()
    second.load_state_dict(first.state_dict())
    fill(whole, [0.7])
    fill(second, [0.7])

    assert second.window() == whole.window()
    assert second.period() == whole.period()
