"""Optimizers and regularizers, through whole runs, against their formulas written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from dltrain.config.build import OWN_PACKAGES
from dltrain.contracts.data import Batch
from dltrain.contracts.run import Group
from dltrain.contracts.task import Task
from dltrain.optim.modifiers import MaxNorm
from dltrain.optim.muon import COEFFICIENTS, Muon, orthogonal
from dltrain.optim.regularizers import L1, L2, ElasticNet
from dltrain.runs.load import load
from tests.asking import assembled
from tests.conftest import REPOSITORY, Compose, Train
from tests.streams import opened

LR = 0.01
STEPS = 4
SMALL = (
    "model=mlp",
    "model.hidden=[8]",
    "model.activation=tanh",
    "data=digits",
    "data.limit=64",
    "data.batch_size=16",
    "data.validation=0",
    "schedule=constant",
    f"optimizer.lr={LR}",
    f"trainer.steps={STEPS}",
    "trainer.evaluate_every=100",
)

Memory = dict[str, Tensor]
Change = Callable[[Tensor, Memory, int], Tensor]


def sgd(gradient: Tensor, memory: Memory, step: int) -> Tensor:
    return -LR * gradient


def momentum(gradient: Tensor, memory: Memory, step: int) -> Tensor:
    memory["v"] = 0.9 * memory.get("v", torch.zeros_like(gradient)) + gradient
    return -LR * memory["v"]


def nesterov(gradient: Tensor, memory: Memory, step: int) -> Tensor:
    momentum(gradient, memory, step)
    return -LR * (gradient + 0.9 * memory["v"])


def adagrad(gradient: Tensor, memory: Memory, step: int) -> Tensor:
    memory["s"] = memory.get("s", torch.zeros_like(gradient)) + gradient**2
    return -LR * gradient / (memory["s"].sqrt() + 1e-10)


def rmsprop(gradient: Tensor, memory: Memory, step: int) -> Tensor:
    memory["s"] = 0.99 * memory.get("s", torch.zeros_like(gradient)) + 0.01 * gradient**2
    return -LR * gradient / (memory["s"].sqrt() + 1e-8)


def rmsprop_atari(gradient: Tensor, memory: Memory, step: int) -> Tensor:
    for name, value in {"s": gradient**2, "m": gradient}.items():
        memory[name] = 0.95 * memory.get(name, torch.zeros_like(gradient)) + 0.05 * value
    scaled = gradient / ((memory["s"] - memory["m"] ** 2).sqrt() + 1e-2)
    memory["v"] = 0.95 * memory.get("v", torch.zeros_like(gradient)) + scaled
    return -LR * memory["v"]


def adam(first: float, second: float) -> Change:
    """Adam whose running means of gradients and of their squares decay so."""

    def change(gradient: Tensor, memory: Memory, step: int) -> Tensor:
        memory["m"] = memory.get("m", torch.zeros_like(gradient)) * first + gradient * (1 - first)
        squares = memory.get("s", torch.zeros_like(gradient)) * second
        memory["s"] = squares + gradient**2 * (1 - second)
        mean, square = memory["m"] / (1 - first**step), memory["s"] / (1 - second**step)
        return -LR * mean / (square.sqrt() + 1e-8)

    return change


def muon(momentum: float) -> Change:
    """By singular values, which the optimizer itself never computes."""

    def change(gradient: Tensor, memory: Memory, step: int) -> Tensor:
        if gradient.ndim < 2:
            return adam(0.9, 0.999)(gradient, memory, step)
        mean = memory.get("m", torch.zeros_like(gradient))
        memory["m"] = momentum * mean + (1 - momentum) * gradient
        ahead = (1 - momentum) * gradient + momentum * memory["m"]
        left, values, right = torch.linalg.svd(ahead.flatten(1).double(), full_matrices=False)
        values = values / values.norm()
        for _ in range(5):
            values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
        rows, columns = ahead.flatten(1).shape
        update = (left * values @ right).view_as(gradient).float()
        return -LR * 0.2 * max(rows, columns) ** 0.5 * update

    return change


FORMULAS: dict[str, Change] = {
    "sgd": sgd,
    "perceptron": sgd,
    "momentum": momentum,
    "nesterov": nesterov,
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "rmsprop_atari": rmsprop_atari,
    "adam": adam(0.9, 0.999),
    "adam_gan": adam(0.5, 0.999),
    "adam_wgan_gp": adam(0.0, 0.9),
    "adamw": adam(0.9, 0.999),
    "adamw_8bit": adam(0.9, 0.999),
    "muon": muon(0.95),
    "muon_short": muon(0.85),
}
# Of the gradient's own kind everywhere but in these, where decay shrinks the weight itself.
DECOUPLED = {"adamw", "adamw_8bit", "muon", "muon_short"}


def beginning(compose: Compose, *overrides: str) -> tuple[Task, list[Batch]]:
    """The untrained task and the first epoch's batches of the run that ``overrides`` describe."""
    parts = assembled(compose("callbacks=none", "device=cpu", *SMALL, *overrides))
    return parts.task, list(opened(parts.source)["train"].batches(0))


def loss_of(task: Task, batch: Batch) -> Tensor:
    return functional.cross_entropy(task.forward(batch)["logits"], batch["target"])


def by_hand(
    task: Task,
    batches: Sequence[Batch],
    change: Change,
    penalty: Callable[[Sequence[Tensor]], Tensor] | None = None,
    decay: float = 0.0,
    decoupled: bool = False,
) -> list[Tensor]:
    """Train with ``change`` and autograd alone; return the parameters."""
    parameters = list(task.parameters())
    memories: list[Memory] = [{} for _ in parameters]
    weights = [p for p in parameters if p.ndim > 1]
    for step, batch in enumerate(batches, start=1):
        loss = loss_of(task, batch)
        if penalty is not None:
            loss = loss + penalty(weights)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for parameter, gradient, memory in zip(parameters, gradients, memories, strict=True):
                decaying = decay if parameter.ndim > 1 else 0.0
                whole = gradient if decoupled else gradient + decaying * parameter
                moved = change(whole, memory, step)
                parameter.mul_(1 - LR * decaying if decoupled else 1.0).add_(moved)
    return [p.detach() for p in parameters]


def weights_after(train: Train, *overrides: str) -> list[Tensor]:
    learned = load(train(*SMALL, *overrides).folder)
    return [p.detach() for p in learned.parameters()]


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6)


def test_every_optimizer_has_its_formula_here() -> None:
    files = {path.stem for path in (REPOSITORY / "configs" / "optimizer").glob("*.yaml")}

    # It searches along a line, and asks for the loss several times a step.
    assert files - {"lbfgs"} == set(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
def test_every_optimizer_follows_its_formula_with_decay_on_weights_alone(
    name: str, compose: Compose, train: Train
) -> None:
    overrides = (f"optimizer={name}", "optimizer.weight_decay=0.3")
    task, batches = beginning(compose, *overrides)

    expected = by_hand(task, batches, FORMULAS[name], decay=0.3, decoupled=name in DECOUPLED)

    assert_same(weights_after(train, *overrides), expected)


@pytest.mark.parametrize("name", FORMULAS)
def test_l2_is_half_the_squared_weights_in_the_loss_under_every_optimizer(
    name: str, compose: Compose, train: Train
) -> None:
    decay = 0.1 if name in DECOUPLED else 0.0
    overrides = (
        f"optimizer={name}",
        f"optimizer.weight_decay={decay}",
        "regularizer=l2",
        "regularizer.l2.strength=0.3",
    )
    task, batches = beginning(compose, *overrides)

    expected = by_hand(
        task,
        batches,
        FORMULAS[name],
        penalty=lambda weights: 0.3 / 2 * sum(w.pow(2).sum() for w in weights),
        decay=decay,
        decoupled=name in DECOUPLED,
    )

    assert_same(weights_after(train, *overrides), expected)


@pytest.mark.parametrize(
    ("overrides", "penalty"),
    [
        (
            ("regularizer=l1", "regularizer.l1.strength=0.02"),
            lambda weights: 0.02 * sum(w.abs().sum() for w in weights),
        ),
        (
            ("regularizer=elastic_net", "regularizer.elastic_net={l1:0.02,l2:0.3}"),
            lambda weights: sum(0.02 * w.abs().sum() + 0.15 * w.pow(2).sum() for w in weights),
        ),
        (
            ("regularizer=[l1,l2]", "regularizer.l1.strength=0.02", "regularizer.l2.strength=0.3"),
            lambda weights: sum(0.02 * w.abs().sum() + 0.15 * w.pow(2).sum() for w in weights),
        ),
    ],
    ids=["l1", "elastic_net", "l1 and l2"],
)
@pytest.mark.parametrize("name", ["momentum", "adamw"])
def test_penalties_are_what_autograd_makes_of_them(
    name: str,
    overrides: tuple[str, ...],
    penalty: Callable[[Sequence[Tensor]], Tensor],
    compose: Compose,
    train: Train,
) -> None:
    overrides = (f"optimizer={name}", "optimizer.weight_decay=0", *overrides)
    task, batches = beginning(compose, *overrides)

    expected = by_hand(task, batches, FORMULAS[name], penalty=penalty)

    assert_same(weights_after(train, *overrides), expected)


@pytest.mark.parametrize(
    "held_back",
    [
        ("optimizer.weight_decay=0.5",),
        ("regularizer=l1", "regularizer.l1.strength=0.5"),
        ("regularizer=l2", "regularizer.l2.strength=0.5"),
        ("regularizer=elastic_net", "regularizer.elastic_net={l1:0.5,l2:0.5}"),
        ("regularizer=max_norm", "modifiers.max_norm.limit=0.1"),
        ("optimizer=adamw", "optimizer.weight_decay=0.5"),
    ],
    ids=lambda overrides: overrides[0],
)
def test_biases_and_norms_are_never_held_back(held_back: tuple[str, ...], train: Train) -> None:
    plain = ("optimizer=adamw" if held_back[0] == "optimizer=adamw" else "optimizer=sgd",)
    common = ("model.batch_norm=true", "trainer.steps=1")

    free = weights_after(train, *plain, "optimizer.weight_decay=0", *common)
    held = weights_after(train, *plain, *common, *held_back)

    for without, under in zip(free, held, strict=True):
        assert torch.equal(without, under) == (without.ndim == 1), without.shape


def test_max_norm_keeps_every_unit_in_its_ball_and_short_ones_as_they_are(train: Train) -> None:
    free = weights_after(train, "optimizer=sgd", "trainer.steps=1")
    limit = float(free[0].norm(dim=1).median())
    held = weights_after(
        train,
        "optimizer=sgd",
        "trainer.steps=1",
        "regularizer=max_norm",
        f"modifiers.max_norm.limit={limit}",
    )

    before, after = free[0].norm(dim=1), held[0].norm(dim=1)
    assert bool((before > limit).any())
    assert bool((before < limit).any())
    torch.testing.assert_close(after, before.clamp(max=limit))
    assert torch.equal(held[0][before < limit], free[0][before < limit])
    directions = functional.cosine_similarity(held[0], free[0])
    torch.testing.assert_close(directions, torch.ones(8))


def limit(weight: Tensor) -> None:
    """Keep each unit's weights within 1, as after a step."""
    max_norm, parameter = MaxNorm(1.0), torch.nn.Parameter(weight)
    max_norm.start({"model": Group([parameter], [parameter])})
    with torch.no_grad():
        max_norm.after_update("model")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_max_norm_takes_a_kernel_as_one_unit_in_any_memory_layout(
    layout: torch.memory_format,
) -> None:
    weight = torch.full((2, 3, 5, 5), 0.1).contiguous(memory_format=layout)
    weight[1] *= 10

    limit(weight)

    norms = weight.flatten(1).norm(dim=1)
    assert norms.tolist() == pytest.approx([0.1 * 75**0.5, 1.0])


def test_a_unit_of_zeros_stays_zero_under_max_norm() -> None:
    weight = torch.zeros(2, 3)

    limit(weight)

    assert not weight.any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: L1(-1.0),
        lambda: L2(-1.0),
        lambda: ElasticNet(l1=-1.0),
        lambda: ElasticNet(l2=-1.0),
        lambda: MaxNorm(0.0),
    ],
)
def test_impossible_strengths_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"at least 0|above 0"):
        make()


def test_dropout_as_a_regularizer_sets_the_models_own(compose: Compose) -> None:
    task, _ = beginning(compose, "regularizer=[l2,dropout]")

    assert [m.p for m in task.modules() if isinstance(m, torch.nn.Dropout)] == [0.5]


def test_label_smoothing_as_a_regularizer_sets_the_tasks_own(compose: Compose) -> None:
    config = compose("regularizer=label_smoothing")

    assert config["task"]["label_smoothing"] == 0.1
    assert config["regularizer"] == {}
    assembled(config, OWN_PACKAGES)


def test_muon_knows_kernels_as_matrices_of_filters() -> None:
    torch.manual_seed(0)
    kernel = torch.randn(6, 2, 3, 3)
    tall, flat = torch.nn.Parameter(kernel.clone()), torch.nn.Parameter(kernel.flatten(1).clone())
    for parameter in (tall, flat):
        parameter.grad = torch.randn(6, 18, generator=torch.Generator().manual_seed(1)).view_as(
            parameter
        )
        Muon([parameter], lr=0.1).step()

    torch.testing.assert_close(tall.flatten(1), flat)


def test_muon_brings_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((3, 20, 30), (2, 30, 20), (1, 7, 7)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(*shape), 5))

        assert 0.2 < values.min() <= values.max() < 1.3


@pytest.mark.parametrize("shape", [(2, 10, 84), (1, 300, 16), (3, 5, 10)])
@pytest.mark.parametrize("iterations", [0, 1, 5])
def test_very_wide_matrices_become_the_same_by_their_gram_matrix(
    shape: tuple[int, int, int], iterations: int
) -> None:
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    a, b, c = COEFFICIENTS
    expected = matrices.double() / matrices.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(iterations):
        gram = expected @ expected.mT
        expected = a * expected + (b * gram + c * gram @ gram) @ expected

    found = orthogonal(matrices, iterations)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def test_muon_leaves_what_has_no_gradient_alone() -> None:
    weight, still = torch.nn.Parameter(torch.zeros(2, 2)), torch.nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.zeros(2, 2)

    Muon([weight, still], weight_decay=0.1).step()

    assert torch.equal(weight, torch.zeros(2, 2))
    assert torch.equal(still, torch.ones(2, 2))
