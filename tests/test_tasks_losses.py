"""Losses: numbers far from 0, other minima than the mean, classes of unequal size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec, Field
from dltrain.contracts.metric import Table
from dltrain.contracts.task import Phase
from dltrain.errors import UserError
from dltrain.tasks.classification import Classification
from dltrain.tasks.losses.classification import ClassWeights, WeightedCrossEntropy, weights_of
from dltrain.tasks.losses.regression import (
    AbsoluteError,
    Huber,
    NumberLoss,
    Poisson,
    Quantile,
    SquaredError,
)
from dltrain.tasks.regression import Regression
from dltrain.tasks.supervised import Supervised
from tests.asking import answers, classes, evaluated, numbers


class Same(nn.Module):
    """Gives its input back, in the precision that multiplications have."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs @ torch.eye(inputs.shape[1])


def line(offset: float, step: float = 1.0, count: int = 40) -> tuple[Regression, Batch]:
    """A task that is right, to a thousandth of a step, about numbers far from 0."""
    targets = offset + step * torch.arange(count, dtype=torch.float64)[:, None]
    mean, std = float(targets.mean()), float(targets.std())
    inputs = ((targets - mean + 1e-3 * step) / std).float()
    return Regression(Same(), numbers(1, unit=(mean, std))), {"input": inputs, "target": targets}


@pytest.mark.parametrize("offset", [0.0, 1990.0, 1.7e9, -1e12])
@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_numbers_far_from_0_are_told_apart_in_every_precision(
    offset: float, precision: torch.dtype | None
) -> None:
    task, batch = line(offset)

    with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
        found = evaluated(task, [batch])
        said = task.predict(batch).columns["prediction"]

    resolution = max(1e-4, abs(offset) * 2**-50)
    assert found.scalars["mae"] == pytest.approx(1e-3, abs=resolution)
    assert found.scalars["rmse"] == pytest.approx(1e-3, abs=resolution)
    assert found.scalars["loss"] == pytest.approx(found.scalars["mse"], rel=0.3)
    assert found.scalars["r2"] == pytest.approx(1.0, abs=1e-6)
    assert float((said - batch["target"] - 1e-3).abs().max()) < resolution
    table = found.tables["predictions"]
    assert [float(row[1]) for row in table.rows] == pytest.approx(
        [offset + number + 1e-3 for number in range(16)], abs=resolution
    )
    for draw in found.figures.values():
        assert draw().axes


def test_a_table_of_predictions_has_the_digits_that_tell_them_apart() -> None:
    def shown(offset: float, step: float) -> Table:
        task, batch = line(offset, step)
        return evaluated(task, [batch]).tables["predictions"]

    assert shown(0.0, 1.0).rows[5] == ("5", "5.001")
    assert shown(1.7e9, 1.0).rows[5] == ("1700000005", "1700000005.001")
    assert shown(0.1, 1e-6).rows[1] == ("0.100001", "0.100001001")


@pytest.mark.parametrize("unit", [1e-25, 1e30])
def test_a_training_loss_in_a_large_or_small_unit_is_a_number(unit: float) -> None:
    task = Regression(Same(), numbers(1, unit=(0.0, unit)))
    batch = {"input": torch.zeros(4, 1), "target": torch.full((4, 1), 2 * unit).double()}

    loss = task.train_step(batch, lambda loss, name="model", weight=None: None)["loss"]

    assert isinstance(loss, Tensor)
    assert float(loss) == pytest.approx(4 * unit**2)
    assert evaluated(task, [batch]).scalars["loss"] == pytest.approx(4 * unit**2)


TARGETS = torch.tensor([3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0, 5.0, 3.0])[:, None].double()


@pytest.mark.parametrize(
    ("loss", "minimum"),
    [
        (SquaredError(), TARGETS.mean()),
        (AbsoluteError(), torch.tensor(3.5)),
        (Quantile(0.85), torch.tensor(6.0)),
        (Huber(1e-3), torch.tensor(3.5)),
        (Huber(1e3), TARGETS.mean()),
        (Poisson(), TARGETS.mean()),
    ],
    ids=["mse", "mae", "quantile", "steep huber", "wide huber", "poisson"],
)
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_each_loss_predicts_what_it_is_for(loss: NumberLoss, minimum: Tensor, scale: float) -> None:
    targets = TARGETS * scale
    spec = numbers(1, unit=(float(targets.mean()), float(targets.std())))
    task = Regression(nn.Linear(1, 1), spec, loss)
    batch = {"input": torch.zeros(10, 1), "target": targets}
    optimizer = torch.optim.Rprop(task.parameters(), lr=0.05)

    def optimize(loss: Tensor, name: str = "model", weight: object = None) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(80):
        step = task.train_step(batch, optimize)["loss"]

    # Between two examples a median is any number.
    slack = 0.51 if isinstance(loss, (AbsoluteError, Huber)) and float(minimum) == 3.5 else 0.01
    found = float(task.predict(batch).columns["prediction"][0])
    assert found == pytest.approx(float(minimum) * scale, abs=slack * scale)
    assert evaluated(task, [batch]).scalars["loss"] == pytest.approx(float(step), rel=1e-4)


def test_a_loss_is_told_in_the_unit_of_the_target() -> None:
    targets, outputs = TARGETS, TARGETS.flip(0)
    mean, std = float(targets.mean()), float(targets.std())
    batch = {"input": ((outputs - mean) / std).float(), "target": targets}

    def found(loss: NumberLoss) -> float:
        return evaluated(Regression(Same(), numbers(1, unit=(mean, std)), loss), [batch]).scalars[
            "loss"
        ]

    errors = targets - outputs
    assert found(AbsoluteError()) == pytest.approx(float(errors.abs().mean()), rel=1e-5)
    pinball = torch.maximum(0.8 * errors, -0.2 * errors).mean()
    assert found(Quantile(0.8)) == pytest.approx(float(pinball), rel=1e-5)
    huber = functional.huber_loss(outputs, targets, delta=1.5 * std)
    assert found(Huber(1.5)) == pytest.approx(float(huber), rel=1e-5)


def test_a_count_below_0_has_no_likelihood() -> None:
    assert Poisson()(torch.zeros(3), torch.tensor([0.0, 2.0, -1.0])).isnan().tolist() == [
        False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("make", [lambda: Huber(0.0), lambda: Quantile(1.0), lambda: Quantile(0.0)])
def test_an_impossible_loss_is_refused(make: object) -> None:
    with pytest.raises(ValueError, match=r"must be above 0|between 0 and 1"):
        make()  # type: ignore[operator]


def counted(*counts: int) -> Field:
    names = tuple("abcdefg"[: len(counts)])
    return Field((), "class", "target", size=len(counts), names=names, counts=counts)


@pytest.mark.parametrize("counts", [(95, 5), (1, 2, 3), (7, 7), (1000, 1, 33)])
def test_balanced_weights_are_scikit_learns(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    expected = compute_class_weight("balanced", classes=np.arange(len(counts)), y=labels)

    assert weights_of(counted(*counts), "balanced") == pytest.approx(expected, rel=1e-12)
    with_an_empty_one = weights_of(counted(*counts, 0), "balanced")
    assert with_an_empty_one == pytest.approx([*expected, 0.0], rel=1e-12)


def test_weights_are_given_by_name_or_in_order() -> None:
    assert weights_of(counted(5, 2), {"b": 3, "a": 1}) == [1, 3]
    assert weights_of(counted(5, 2), [1, 3]) == [1, 3]
    unnamed = Field((), "class", "target", size=2)
    assert weights_of(unnamed, {0: 1, 1: 19}) == [1, 19]  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([1.0], "has 1 weights for 2 classes: 'a', 'b'"),
        ({"a": 1.0, "c": 2.0}, "there is no class 'c'; there are 'a', 'b'"),
        ({"a": 1.0}, "'b' has no weight"),
        ([1.0, -1.0], "not negative"),
        ([0.0, 0.0], "one is above 0"),
        ([1.0, float("nan")], "finite"),
    ],
)
def test_weights_that_do_not_fit_the_classes_are_refused(weights: ClassWeights, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        weights_of(counted(5, 2), weights)


def test_weights_multiply_an_examples_loss_also_in_a_batch_of_one_class() -> None:
    logits, targets = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    each = functional.cross_entropy(logits, targets, reduction="none")
    loss = WeightedCrossEntropy([1.0, 2.0, 0.5])

    expected = (each * torch.tensor([1.0, 1.0, 2.0, 2.0, 0.5, 0.5])).mean()
    torch.testing.assert_close(loss(logits, targets), expected)
    torch.testing.assert_close(loss(logits[2:4], targets[2:4]), 2 * each[2:4].mean())
    mixed = functional.one_hot(targets, 3).float()
    torch.testing.assert_close(loss(logits, mixed), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_weights_and_focus_it_is_the_ordinary_cross_entropy(smoothing: float) -> None:
    logits, targets = torch.randn(8, 4), torch.arange(8) % 4
    for some in (targets, torch.rand(8, 4).softmax(1)):
        expected = functional.cross_entropy(logits, some, label_smoothing=smoothing)
        found = WeightedCrossEntropy([1.0] * 4, label_smoothing=smoothing)(logits, some)
        torch.testing.assert_close(found, expected)


def test_focal_loss_is_that_of_the_paper_and_has_a_gradient_where_all_is_sure() -> None:
    logits = torch.tensor([[2.0, 0.0], [-1.0, 3.0], [200.0, -200.0]], requires_grad=True)
    targets = torch.tensor([0, 0, 0])
    p = logits.detach().softmax(1)[:2, 0]
    expected = -((1 - p) ** 2 * p.log()).sum() / 3

    loss = WeightedCrossEntropy([1.0, 1.0], focal_gamma=2.0)(logits, targets)
    loss.backward()

    torch.testing.assert_close(loss.detach(), expected)
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_weights_act_in_training_alone_and_are_in_no_checkpoint() -> None:
    spec = classes("ab", 2)
    torch.manual_seed(0)
    plain = Classification(nn.Linear(2, 2), spec)
    weighted = Classification(nn.Linear(2, 2), spec, class_weights=[1, 9], focal_gamma=1.0)
    weighted.load_state_dict(plain.state_dict())
    batch = {"input": torch.randn(6, 2), "target": torch.tensor([0, 1, 0, 1, 1, 0])}

    losses = []
    for task in (plain, weighted):
        losses.append(task.train_step(batch, lambda loss, name="model", weight=None: None)["loss"])
    assert losses[0] != losses[1]
    assert evaluated(plain, [batch]).scalars == evaluated(weighted, [batch]).scalars
    assert torch.equal(answers(plain, batch["input"]), answers(weighted, batch["input"]))


def test_balance_without_counts_is_refused_before_the_first_step() -> None:
    task = Classification(nn.Linear(2, 2), classes("ab", 2), class_weights="balanced")
    with pytest.raises(UserError, match="does not tell how many"):
        task.enter(Phase("train", 1))


def test_what_is_set_of_another_kind_of_target_is_refused() -> None:
    some = classes("ab", 2)
    with pytest.raises(ValueError, match="task/loss"):
        Supervised(nn.Linear(2, 2), some, loss=AbsoluteError())
    for setting in ({"label_smoothing": 0.1}, {"class_weights": [1.0]}, {"focal_gamma": 1.0}):
        (name,) = setting
        with pytest.raises(ValueError, match=f"{name} needs classes"):
            Supervised(nn.Linear(2, 1), numbers(2), **setting)
    assert isinstance(Supervised(nn.Linear(2, 1), numbers(2), loss=Huber()).task, Regression)


def test_a_spec_without_a_unit_keeps_outputs_as_they_are() -> None:
    spec = DataSpec(
        {"input": Field((1,), "number", "input"), "target": Field((1,), "number", "target")}
    )
    task = Regression(Same(), spec)
    said = task.predict({"input": torch.tensor([[1.5]])})
    assert said.columns["prediction"].dtype == torch.float32
