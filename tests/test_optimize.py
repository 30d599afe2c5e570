"""``optimize(loss, name)``: accumulation, clipping, and groups that leave each other alone."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.run import Group, Modifier, Regularizer
from dltrain.contracts.task import Metrics, Task
from dltrain.contracts.task import Optimize as OptimizeContract
from dltrain.core.update import Optimize
from dltrain.errors import UserError
from dltrain.optim.groups import groups_of
from dltrain.optim.modifiers import MaxNorm
from dltrain.optim.regularizers import L1, L2
from dltrain.optim.weight_decay import with_decay_where_exact
from dltrain.runs.load import load
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
    trained = load(train(*SMALL, *overrides).folder)
    return nn.utils.parameters_to_vector(trained.parameters()).detach()


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


class Rounding(Modifier):
    """Rounds each group's weights after its steps, and notes who was told what."""

    def __init__(self, name: str = "", heard: list[tuple[str, str]] | None = None) -> None:
        self.name, self.heard = name, [] if heard is None else heard

    def start(self, groups: Mapping[str, Group]) -> None:
        self.groups = groups

    def after_update(self, name: str) -> None:
        assert not torch.is_grad_enabled()
        assert all(parameter.grad is None for parameter in self.groups[name].parameters)
        self.heard.append((self.name, name))
        for weight in self.groups[name].weights:
            weight.round_()


def optimizing(
    task: Task,
    regularizers: Iterable[Regularizer] = (),
    modifiers: Sequence[Modifier] = (),
    **settings: Any,
) -> Optimize:
    optimizers = {
        name: torch.optim.SGD(parameters, lr=0.01)
        for name, parameters in task.parameter_groups().items()
    }
    penalties = {name: list(regularizers) for name in optimizers}
    groups = groups_of(task)
    for modifier in modifiers:
        modifier.start(groups)
    return Optimize(optimizers, groups, penalties, "cpu", modifiers=modifiers, **settings)


def snapshot(module: nn.Module) -> Tensor:
    return nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def test_what_penalizes_one_group_leaves_the_others_alone() -> None:
    task, free = Two(), Two()
    optimizers = {
        name: torch.optim.SGD(parameters, lr=0.01)
        for name, parameters in task.parameter_groups().items()
    }
    optimize = Optimize(optimizers, groups_of(task), {"second": [L1(1.0)]}, "cpu")

    task.train_step({}, optimize)
    free.train_step({}, optimizing(free))

    assert torch.equal(snapshot(task.first), snapshot(free.first))
    moved = (task.second.weight - free.second.weight).detach()
    torch.testing.assert_close(moved, -0.01 * Two().second.weight.sign().detach())


def test_modifiers_act_on_a_group_after_each_of_its_steps_in_order() -> None:
    task, heard = Two(), list[tuple[str, str]]()
    modifiers = [Rounding("one", heard), Rounding("other", heard)]
    optimize = optimizing(task, modifiers=modifiers, accumulate=2)

    optimize(task.loss(), "first")
    optimize(task.loss(), "second")
    assert heard == []
    optimize(task.loss(), "second")
    assert heard == [("one", "second"), ("other", "second")]
    weight = task.second.weight.detach()
    assert torch.equal(weight, weight.round())
    assert not torch.equal(task.first.weight, task.first.weight.round())
    assert not torch.equal(task.second.bias, task.second.bias.round())

    optimize.finish()
    assert heard[2:] == [("one", "first"), ("other", "first")]


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
    optimize = optimizing(
        task, [L1(0.1)], modifiers=[Rounding()], accumulate=accumulate, clip_norm=1.0
    )
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
    groups = {name: Group(group, []) for name, group in biases.items()}
    optimize = Optimize(optimizers, groups, left, "cpu")
    begun = task.first.bias.detach().clone()

    optimize(task.loss(), "first")

    assert not torch.equal(task.first.bias, begun)


class Bowl(Task):
    """The quadratic ``|A x - b|^2`` in two variables; its minimum is known."""

    def __init__(self) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.tensor([[5.0, -3.0]]))
        self.scales, self.center = torch.tensor([1.0, 30.0]), torch.tensor([0.5, 0.25])

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"model": [self.point]}

    def loss(self) -> Tensor:
        return (self.scales * (self.point - self.center)).square().sum()

    def train_step(self, batch: Batch, optimize: OptimizeContract) -> Metrics:
        optimize(self.loss)
        return {}

    def forward(self, batch: Batch) -> Outputs:
        return {"output": self.point}

    def metrics(self, final: bool) -> Sequence[Metric]:
        return ()


def searching(task: Task, modifiers: Sequence[Modifier] = (), **settings: Any) -> Optimize:
    """By an optimizer that computes the loss as often as it likes."""
    groups = groups_of(task)
    made = torch.optim.LBFGS(groups["model"].parameters, line_search_fn="strong_wolfe")
    for modifier in modifiers:
        modifier.start(groups)
    return Optimize({"model": made}, groups, {}, "cpu", modifiers=modifiers, **settings)


def test_an_optimizer_that_asks_several_times_a_step_finds_the_minimum() -> None:
    task = Bowl()
    optimize = searching(task)

    for _ in range(3):
        task.train_step({}, optimize)

    torch.testing.assert_close(task.point.detach()[0], task.center)


def test_modifiers_act_after_such_a_step_too() -> None:
    task, heard = Bowl(), list[tuple[str, str]]()

    class Hearing(Rounding):
        def after_update(self, name: str) -> None:
            assert not torch.is_grad_enabled()
            self.heard.append((self.name, name))

    task.train_step({}, searching(task, [Hearing("one", heard), Hearing("other", heard)]))

    assert heard == [("one", "model"), ("other", "model")]


def test_any_optimizer_takes_a_loss_that_can_be_computed_anew() -> None:
    task, twin = Bowl(), Bowl()
    optimize, other = optimizing(task), optimizing(twin)

    task.train_step({}, optimize)
    other(twin.loss())

    assert torch.equal(task.point, twin.point)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_one_loss_is_not_enough_for_an_optimizer_that_asks_several_times(accumulate: int) -> None:
    task = Bowl()
    optimize = searching(task, accumulate=accumulate)

    with pytest.raises(UserError, match="LBFGS computes the loss several times a step"):
        optimize(task.loss() if accumulate == 1 else task.loss)


Weight = Tensor | float | None


def learned(losses: Sequence[Tensor], weights: Sequence[Weight], accumulate: int) -> Tensor:
    """Where one step leads that takes all ``losses``; gradients of a ramp do not change."""
    weight = nn.Parameter(torch.zeros(1, 3))
    groups = {"model": Group([weight], [weight])}
    made = torch.optim.SGD([weight], lr=1.0)
    optimize = Optimize({"model": made}, groups, {}, "cpu", accumulate=accumulate)
    for slope, counts in zip(losses, weights, strict=True):
        optimize((weight * slope).sum(), weight=counts)
    optimize.finish()
    assert weight.grad is None
    return weight.detach()[0]


SLOPES = [torch.tensor([1.0, 2.0, -4.0]), torch.tensor([5.0, -2.0, 0.5])]


@pytest.mark.parametrize("as_tensors", [False, True])
@pytest.mark.parametrize("accumulate", [2, 5], ids=["a whole step", "the run ends within one"])
def test_calls_that_are_accumulated_weigh_what_they_are_means_over(
    accumulate: int, as_tensors: bool
) -> None:
    weights = [torch.tensor(3.0), torch.tensor(1.0)] if as_tensors else [3.0, 1.0]

    torch.testing.assert_close(
        learned(SLOPES, weights, accumulate), -(3 * SLOPES[0] + SLOPES[1]) / 4
    )
    torch.testing.assert_close(
        learned(SLOPES, [None, None], accumulate), -(SLOPES[0] + SLOPES[1]) / 2
    )


@pytest.mark.parametrize("nothing", [0, 0.0, torch.tensor(0), torch.tensor(0.0)])
@pytest.mark.parametrize("accumulate", [2, 5])
def test_batches_that_weigh_nothing_change_nothing(nothing: Weight, accumulate: int) -> None:
    assert not learned(SLOPES, [nothing, nothing], accumulate).any()
    torch.testing.assert_close(learned(SLOPES, [nothing, 2.0], accumulate), -SLOPES[1])


def test_where_each_batch_is_a_step_its_weight_changes_nothing() -> None:
    torch.testing.assert_close(learned(SLOPES[:1], [7.0], 1), -SLOPES[0])


def test_weights_of_one_step_are_not_those_of_the_next() -> None:
    losses = [*SLOPES, *SLOPES]

    torch.testing.assert_close(
        learned(losses, [3.0, 1.0, 1.0, 3.0], 2),
        -(3 * SLOPES[0] + SLOPES[1]) / 4 - (SLOPES[0] + 3 * SLOPES[1]) / 4,
    )


def test_accumulated_weights_survive_a_resume() -> None:
    def begun() -> tuple[nn.Parameter, Optimize]:
        weight = nn.Parameter(torch.zeros(1, 3))
        groups = {"model": Group([weight], [weight])}
        made = torch.optim.SGD([weight], lr=1.0)
        return weight, Optimize({"model": made}, groups, {}, "cpu", accumulate=2)

    weight, optimize = begun()
    optimize((weight * SLOPES[0]).sum(), weight=torch.tensor(3.0))
    again, other = begun()
    other.load_state_dict(optimize.state_dict())
    other((again * SLOPES[1]).sum(), weight=torch.tensor(1.0))

    torch.testing.assert_close(again.detach()[0], learned(SLOPES, [3.0, 1.0], 2))


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
    found = {name: group.weights for name, group in groups_of(task).items()}

    named = {parameter: name for name, parameter in task.named_parameters()}
    assert {group: [named[p] for p in parameters] for group, parameters in found.items()} == {
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
    """The same as a penalty: one step with it must equal one step on the penalized loss."""
    decay, left = with_decay_where_exact({**settings, "weight_decay": 0.0}, optimizer, [L2(0.5)])

    assert bool(decay) == rides

    def stepped(weight_decay: float, penalties: Iterable[Regularizer]) -> Tensor:
        weight = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
        takes_decay = "weight_decay" in inspect.signature(optimizer).parameters
        given = {"weight_decay": weight_decay} if takes_decay else {}
        made = optimizer([weight], lr=0.1, **settings, **given)
        left = {"model": list(penalties)}
        groups = {"model": Group([weight], [weight])}
        optimize = Optimize({"model": made}, groups, left, "cpu")
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


def test_a_limit_leaves_groups_that_did_not_step_alone() -> None:
    task = Two()
    before = snapshot(task.first)
    optimize = optimizing(task, modifiers=[MaxNorm(0.1)])

    optimize(task.loss(), "second")

    assert torch.equal(snapshot(task.first), before)
    assert task.second.weight.norm(dim=1).max() <= 0.1001
