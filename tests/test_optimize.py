"""``optimize(loss, name)``: accumulation, clipping, and groups that leave each other alone."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.run import Group, Modifier, Regularizer
from dltrain.contracts.task import Metrics, Task
from dltrain.contracts.task import Optimize as OptimizeContract
from dltrain.load import load
from dltrain.optim.modifiers import MaxNorm
from dltrain.optim.regularizers import L1, L2
from dltrain.optimize import Optimize, groups_of, with_decay_where_exact
from tests.conftest import Train

SMALL = (
    "model=mlp",
    "model.hidden=[8]",
    "data=digits",
    "data.limit=64",
    "data.batch_size=16",
    "data.validation=0",
    "schedule=constant",
    "optimizer=sgd",
    "trainer.evaluate_every=100",
    "data.augment.shift=0",
    "data.augment.rotate=0",
    "data.augment.scale=0",
)
UNTOUCHED = "optimizer.lr=1e-30"


def weights_after(train: Train, *overrides: str) -> Tensor:
    learned = load(train(*SMALL, *overrides).folder)
    return nn.utils.parameters_to_vector(learned.parameters()).detach()


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_k_accumulated_batches_are_one_batch_k_times_as_big(optimizer: str, train: Train) -> None:
    choice = (f"optimizer={optimizer}", "trainer.epochs=2", "regularizer=[l1,l2]")

    small = weights_after(train, *choice, "trainer.accumulate=4")
    big = weights_after(train, *choice, "data.batch_size=64")

    torch.testing.assert_close(small, big, rtol=1e-4, atol=2e-6)


def test_gradients_left_over_at_the_last_step_are_not_lost(train: Train) -> None:
    begun = weights_after(train, UNTOUCHED, "trainer.steps=1")
    alone, left_over, three, four = (
        weights_after(train, f"trainer.accumulate={batches}", f"trainer.steps={steps}")
        for batches, steps in ((1, 1), (8, 1), (3, 3), (3, 4))
    )

    assert not torch.equal(begun, alone)
    # One batch of eight came: the mean over those that came is that batch's own gradient.
    torch.testing.assert_close(left_over, alone)
    assert not torch.equal(three, four)


def test_a_run_shorter_than_its_accumulation_still_learns(train: Train) -> None:
    begun = weights_after(train, UNTOUCHED, "trainer.steps=1")

    assert not torch.equal(begun, weights_after(train, "trainer.accumulate=8", "trainer.steps=2"))


def test_clipping_bounds_the_whole_gradient_and_keeps_its_direction(train: Train) -> None:
    one_step = ("optimizer.lr=1.0", "trainer.steps=1")
    begun = weights_after(train, UNTOUCHED, "trainer.steps=1")
    free = weights_after(train, *one_step) - begun
    clipped = weights_after(train, *one_step, "trainer.clip_norm=0.05") - begun
    generous = weights_after(train, *one_step, "trainer.clip_norm=1e6") - begun

    assert float(free.norm()) > 0.1
    assert float(clipped.norm()) == pytest.approx(0.05, rel=1e-3)
    torch.testing.assert_close(clipped / clipped.norm(), free / free.norm(), rtol=0, atol=1e-5)
    torch.testing.assert_close(generous, free)


class Two(Task):
    """Two networks, each with a loss of its own that also runs through the other."""

    def __init__(self, frozen: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 1)
        if frozen:
            self.second.bias.requires_grad_(False)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"first": list(self.first.parameters()), "second": list(self.second.parameters())}

    def loss(self) -> Tensor:
        inputs = torch.arange(6.0).view(2, 3)
        return self.second(self.first(inputs)).square().mean()

    def train_step(self, batch: Batch, optimize: OptimizeContract) -> Metrics:
        for name in self.parameter_groups():
            optimize(self.loss(), name)
        return {}

    def forward(self, batch: Batch) -> Outputs:
        return {"output": self.second(self.first(batch["input"]))}

    def metrics(self, final: bool) -> Sequence[Metric]:
        return ()


def optimizing(task: Task, regularizers: Iterable[Regularizer] = (), **settings: Any) -> Optimize:
    optimizers = {
        name: torch.optim.SGD(parameters, lr=0.01)
        for name, parameters in task.parameter_groups().items()
    }
    penalties = {name: list(regularizers) for name in optimizers}
    return Optimize(optimizers, groups_of(task), penalties, "cpu", **settings)


def snapshot(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_what_holds_one_group_back_leaves_the_others_alone() -> None:
    task = Two()
    optimizers = {
        name: torch.optim.SGD(parameters, lr=0.01)
        for name, parameters in task.parameter_groups().items()
    }
    optimize = Optimize(optimizers, groups_of(task), {"second": [L1(0.5)]}, "cpu")
    twin = Two()

    task.train_step({}, optimize)
    twin.train_step({}, optimizing(twin))

    assert torch.equal(snapshot(task.first), snapshot(twin.first))
    assert not torch.equal(snapshot(task.second), snapshot(twin.second))


class Watch(Modifier):
    """Notes when it is called, and the weights then."""

    def __init__(self, name: str, task: Task, seen: list[tuple[str, str, Tensor]]) -> None:
        self._name, self._task, self._seen = name, task, seen

    def after_update(self, name: str) -> None:
        assert not torch.is_grad_enabled()
        self._seen.append((self._name, name, snapshot(self._task)))


def test_modifiers_act_on_a_group_after_each_of_its_steps_in_their_order() -> None:
    task, seen = Two(), []
    begun = snapshot(task)
    limit = MaxNorm(0.1)
    limit.start(groups_of(task))
    modifiers = [Watch("before", task, seen), limit, Watch("after", task, seen)]
    optimize = optimizing(task, accumulate=2, modifiers=modifiers)

    task.train_step({}, optimize)
    assert not seen
    task.train_step({}, optimize)

    assert [(who, name) for who, name, _ in seen] == [
        (who, name) for name in ("first", "second") for who in ("before", "after")
    ]
    stepped, limited, *_ = (weights for _, _, weights in seen)
    assert not torch.equal(begun, stepped)
    assert not torch.equal(stepped, limited)
    for network in (task.first, task.second):
        assert network.weight.norm(dim=1).max() <= 0.1001


def test_a_limit_leaves_groups_that_did_not_step_alone() -> None:
    task, limit = Two(), MaxNorm(0.1)
    limit.start(groups_of(task))
    optimize = optimizing(task, modifiers=[limit])

    optimize(task.loss(), "second")

    assert task.first.weight.norm(dim=1).max() > 0.2
    assert task.second.weight.norm(dim=1).max() <= 0.1001


def test_a_second_loss_of_a_step_in_bfloat16_sees_the_weights_that_the_first_has_left() -> None:
    task = Two()
    optimize = optimizing(task)
    inputs = torch.arange(6.0).view(2, 3)

    with torch.autocast("cpu", torch.bfloat16):
        optimize(100 * task.second(inputs).square().mean(), "second")
        seen = task.second(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(seen, task.second(inputs), rtol=0, atol=0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_loss_over_one_group_leaves_the_others_weights_and_gradients_alone(
    accumulate: int,
) -> None:
    task = Two()
    optimize = optimizing(task, [L1(0.1)], accumulate=accumulate, clip_norm=1.0)
    first, second = snapshot(task.first), snapshot(task.second)

    for _ in range(accumulate):
        optimize(task.loss(), "first")
        assert all(parameter.grad is None for parameter in task.second.parameters())

    assert not torch.equal(snapshot(task.first), first)
    assert torch.equal(snapshot(task.second), second)


def test_groups_that_step_in_turn_do_what_two_hand_written_steps_do() -> None:
    task, twin = Two(), Two()
    task.train_step({}, optimizing(task))

    for network in (twin.first, twin.second):
        parameters = list(network.parameters())
        gradients = torch.autograd.grad(twin.loss(), parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 0.01 * gradient

    torch.testing.assert_close(snapshot(task), snapshot(twin))


def test_groups_accumulate_each_for_itself() -> None:
    task = Two()
    optimize = optimizing(task, accumulate=2)
    begun = snapshot(task)

    task.train_step({}, optimize)
    assert torch.equal(snapshot(task), begun)
    optimize(task.loss(), "second")
    assert torch.equal(snapshot(task.first), begun[:12])
    assert not torch.equal(snapshot(task.second), begun[12:])


def test_a_frozen_parameter_of_one_of_several_groups_stays_as_it_is() -> None:
    task = Two(frozen=True)
    bias = task.second.bias.clone()
    weight = task.second.weight.clone()

    task.train_step({}, optimizing(task))

    assert torch.equal(task.second.bias, bias)
    assert not torch.equal(task.second.weight, weight)


@pytest.mark.parametrize("regularizer", [L1(0.1), L2(0.1)])
def test_a_group_of_biases_alone_has_nothing_to_regularize(regularizer: Regularizer) -> None:
    task = Two()
    biases = {"first": [task.first.bias], "second": [task.second.bias]}
    # Under AdamW the L2 regularizer is a penalty like the others.
    _, penalties = with_decay_where_exact({}, torch.optim.AdamW, [regularizer])
    optimizers = {name: torch.optim.SGD(group, lr=0.01) for name, group in biases.items()}
    left = dict.fromkeys(biases, penalties)
    optimize = Optimize(optimizers, {n: Group(b, []) for n, b in biases.items()}, left, "cpu")
    begun = task.first.bias.detach().clone()

    optimize(task.loss(), "first")

    assert not torch.equal(task.first.bias, begun)


def test_the_multiplier_scales_every_groups_own_rate() -> None:
    task = Two()
    optimize = optimizing(task)

    for multiplier in (0.5, 0.1, 1.0):
        optimize.set_multiplier(multiplier)
        rate = pytest.approx(0.01 * multiplier)
        assert optimize.learning_rates() == {"first": rate, "second": rate}


def test_gradient_norms_are_measured_when_asked_and_before_they_are_clipped() -> None:
    task = Two()
    expected = torch.stack(
        [g.norm() for g in torch.autograd.grad(task.loss(), list(task.first.parameters()))]
    ).norm()
    optimize = optimizing(task)
    optimize.measure = True
    optimize(task.loss(), "first")
    torch.testing.assert_close(optimize.gradient_norms["first"], expected)

    task = Two()
    clipping = optimizing(task, clip_norm=1e-3)
    clipping(task.loss(), "first")
    torch.testing.assert_close(clipping.gradient_norms["first"], expected)


def test_weights_are_what_is_neither_bias_nor_norm_nor_scale() -> None:
    class Everything(Two):
        def __init__(self) -> None:
            super().__init__()
            self.rest = nn.ModuleDict(
                {
                    "convolution": nn.Conv2d(1, 2, 3),
                    "embedding": nn.Embedding(3, 4),
                    "batch": nn.BatchNorm2d(2),
                    "layer": nn.LayerNorm((2, 3)),
                    "rms": nn.RMSNorm((2, 3)),
                    "group": nn.GroupNorm(1, 2),
                    "instance": nn.InstanceNorm2d(2, affine=True),
                }
            )

        def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
            return {**super().parameter_groups(), "rest": list(self.rest.parameters())}

    task = Everything()
    found = groups_of(task)

    named = {parameter: name for name, parameter in task.named_parameters()}
    assert {name: [named[p] for p in group.weights] for name, group in found.items()} == {
        "first": ["first.weight"],
        "second": ["second.weight"],
        "rest": ["rest.convolution.weight", "rest.embedding.weight"],
    }


@pytest.mark.parametrize(
    ("optimizer", "settings", "rides"),
    [
        (torch.optim.SGD, {}, True),
        (torch.optim.Adam, {}, True),
        (torch.optim.RMSprop, {}, True),
        (torch.optim.NAdam, {}, True),
        (torch.optim.NAdam, {"decoupled_weight_decay": True}, False),
        (torch.optim.AdamW, {}, False),
        (torch.optim.Adafactor, {}, False),
        (torch.optim.Rprop, {}, False),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_l2_rides_in_an_optimizer_only_where_that_is_the_same(
    optimizer: type[torch.optim.Optimizer], settings: dict[str, Any], rides: bool
) -> None:
    """The same as a penalty: one step with it must equal one step on the penalised loss."""
    decay, left = with_decay_where_exact({**settings, "weight_decay": 0.0}, optimizer, [L2(0.5)])

    assert bool(decay) == rides

    def stepped(weight_decay: float, penalties: Iterable[Regularizer]) -> Tensor:
        weight = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
        takes_decay = "weight_decay" in inspect.signature(optimizer).parameters
        given = {"weight_decay": weight_decay} if takes_decay else {}
        made = optimizer([weight], lr=0.1, **settings, **given)
        left = {"model": list(penalties)}
        optimize = Optimize({"model": made}, {"model": Group([weight], [weight])}, left, "cpu")
        optimize((weight * torch.tensor([[1.0, 2.0], [3.0, -4.0]])).sum())
        return weight.detach()

    class Penalty(Regularizer):
        def penalty(self, weights: Any) -> Tensor:
            return 0.25 * sum(w.square().sum() for w in weights)

    torch.testing.assert_close(stepped(decay, left), stepped(0.0, [Penalty()]))


def test_a_decay_of_its_own_stays_beside_an_l2_penalty() -> None:
    for optimizer, expected in ((torch.optim.SGD, 0.5), (torch.optim.AdamW, 0.2)):
        decay, _ = with_decay_where_exact({"weight_decay": 0.2}, optimizer, [L2(0.3)])
        assert decay == pytest.approx(expected)
