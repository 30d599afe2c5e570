"""``trainer.cuda_graph``, as far as it can be told without such a device: who is replayed, how."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch
from dltrain.contracts.run import Modifier
from dltrain.contracts.task import Metrics, Task
from dltrain.core.update import Optimize
from dltrain.engine import cuda_graph
from dltrain.engine.cuda_graph import WARM, Recorded, Replay, keep_rates_on, replayed_step
from dltrain.errors import UserError
from dltrain.models.generative.gan import GAN
from dltrain.optim.groups import groups_of
from dltrain.optim.modifiers import EMA
from dltrain.optim.muon import Muon
from dltrain.tasks.classification import Classification
from dltrain.tasks.gan import AdversarialGame
from tests.asking import classes
from tests.conftest import Cli
from tests.making import image_spec
from tests.specs import images

CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")


def classifier() -> Classification:
    torch.manual_seed(0)
    return Classification(nn.Linear(3, 2), classes("ab", 3))


class Host(Modifier):
    replayable = False


def optimized(
    task: Task,
    optimizer: type[torch.optim.Optimizer],
    accumulate: int = 1,
    modifiers: Sequence[Modifier] = (),
    **settings: object,
) -> Optimize:
    groups = task.parameter_groups()
    made = {name: optimizer(group, lr=0.1, **settings) for name, group in groups.items()}
    return Optimize(made, groups_of(task), {}, "cpu", accumulate=accumulate, modifiers=modifiers)


def batch(size: int, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 3, generator=generator)
    return {"input": inputs, "target": (inputs.sum(1) > 0).long()}


class Tape:
    """In place of a CUDA graph: does again what was recorded, with the memory that it had."""

    def __init__(self) -> None:
        self.replays = 0

    def __call__(self, step: Callable[[], Metrics]) -> tuple[Replay, Metrics]:
        results = {"loss": torch.zeros(()), "accuracy": torch.zeros(())}

        def replay() -> None:
            self.replays += 1
            for name, value in step().items():
                results[name].copy_(value)

        return replay, results


def run(sizes: list[int], record: Tape | None) -> tuple[Tensor, list[Tensor]]:
    """Weights and losses after batches of ``sizes``, by a recorded step or a plain one."""
    task = classifier()
    optimize = optimized(task, torch.optim.SGD, momentum=0.9, fused=True)

    def plain(batch: Batch) -> Metrics:
        return task.train_step(batch, optimize)

    step = plain
    if record is not None:
        keep_rates_on(CPU, optimize.optimizers.values())
        step = Recorded(plain, optimize, record, logging.INFO)
    losses: list[Tensor] = []
    for number, size in enumerate(sizes):
        optimize.set_multiplier(1 / (1 + number))
        loss = step(batch(size, number))["loss"]
        assert isinstance(loss, Tensor)
        losses.append(loss)
    return nn.utils.parameters_to_vector(task.parameters()).detach(), losses


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the user has heard so far."""
    caplog.set_level("INFO", "dltrain")
    return lambda: [record.getMessage() for record in caplog.records]


def test_a_replayed_run_learns_what_a_plain_one_does(notes: Callable[[], list[str]]) -> None:
    """Also from batches of another shape in between, and by the rate of each step."""
    sizes = [8] * 10 + [3] + [8] * 5
    tape = Tape()

    weights, losses = run(sizes, tape)
    expected_weights, expected_losses = run(sizes, None)

    torch.testing.assert_close(weights, expected_weights)
    torch.testing.assert_close(torch.stack(losses), torch.stack(expected_losses))
    assert tape.replays == len(sizes) - WARM - 1
    assert notes() == []


def test_batches_of_many_shapes_are_not_recorded_and_that_is_said(
    notes: Callable[[], list[str]],
) -> None:
    tape = Tape()

    weights, _ = run([8, 7, 8, 7, 8, 8, 8, 8], tape)

    torch.testing.assert_close(weights, run([8, 7, 8, 7, 8, 8, 8, 8], None)[0])
    assert tape.replays == 0
    assert notes() == ["trainer.cuda_graph: off, batches are of many shapes."]


def test_a_step_that_cannot_be_recorded_is_made_as_ever_and_that_is_said(
    notes: Callable[[], list[str]],
) -> None:
    class Broken(Tape):
        def __call__(self, step: Callable[[], Metrics]) -> tuple[Replay, Metrics]:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")

    weights, _ = run([8] * 8, Broken())

    torch.testing.assert_close(weights, run([8] * 8, None)[0])
    (note,) = notes()
    assert note.endswith("operation not permitted when stream is capturing.")


def test_norms_are_those_of_the_replayed_step() -> None:
    task = classifier()
    optimize = optimized(task, torch.optim.SGD, fused=True)
    step = Recorded(lambda b: task.train_step(b, optimize), optimize, Tape(), logging.INFO)

    for number in range(WARM + 2):
        step(batch(8, number))

    assert float(optimize.gradient_norms["model"]) > 0


@pytest.mark.parametrize(
    ("make", "obstacle"),
    [
        (lambda: (t := classifier(), optimized(t, torch.optim.SGD)), "SGD decides something"),
        (lambda: (t := classifier(), optimized(t, Muon)), "Muon decides something"),
        (
            lambda: (
                t := classifier(),
                optimized(t, torch.optim.SGD, fused=True, modifiers=[Host()]),
            ),
            "Host decides something on the host",
        ),
        (
            lambda: (
                t := classifier(),
                optimized(t, torch.optim.SGD, fused=True, accumulate=2),
            ),
            "not every batch steps",
        ),
        (
            lambda: (
                t := AdversarialGame(GAN(images(1, 8, 8)), image_spec((1, 8, 8))),
                optimized(t, torch.optim.SGD, fused=True),
            ),
            "a step of AdversarialGame decides something on the host",
        ),
    ],
)
def test_what_stands_in_the_way_is_said_where_a_recording_is_asked_for(
    make: Callable[[], tuple[Task, Optimize]], obstacle: str, notes: Callable[[], list[str]]
) -> None:
    task, optimize = make()

    def step(batch: Batch) -> Metrics:
        return {}

    with pytest.raises(UserError, match=obstacle):
        replayed_step("on", step, task, optimize, CUDA)
    assert replayed_step("auto", step, task, optimize, CUDA) is step
    assert replayed_step("off", step, task, optimize, CUDA) is step
    assert notes() == []


class Own(nn.Linear):
    """What somebody wrote: its forward might count."""


class OwnLimit(Modifier):
    """Likewise."""


# As torch's own is called, of which there is one, too.
Linear = type("Linear", (Own,), {})


@pytest.mark.parametrize("part", ["Own", "Linear", "OwnLimit"])
def test_what_somebody_wrote_is_replayed_where_it_is_asked_for_alone(
    part: str, notes: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graph, "keep_rates_on", lambda *_: None)
    first = {"Own": Own, "Linear": Linear}.get(part, nn.Linear)
    task = Classification(nn.Sequential(first(3, 4), nn.Linear(4, 2)), classes("ab", 3))
    modifiers = [OwnLimit()] if part == "OwnLimit" else []
    optimize = optimized(task, torch.optim.SGD, fused=True, modifiers=modifiers)

    def step(batch: Batch) -> Metrics:
        return {}

    assert replayed_step("auto", step, task, optimize, CUDA) is step
    (note,) = notes()
    assert note.startswith(f"trainer.cuda_graph=auto: off, {part} may decide something in Python.")
    assert isinstance(replayed_step("on", step, task, optimize, CUDA), Recorded)


def test_what_is_known_is_replayed_by_default(
    notes: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graph, "keep_rates_on", lambda *_: None)
    task = classifier()
    optimize = optimized(task, torch.optim.SGD, fused=True, modifiers=[EMA()])

    assert isinstance(replayed_step("auto", lambda _: {}, task, optimize, CUDA), Recorded)
    assert notes() == []


def test_on_without_a_device_is_one_message_and_auto_goes_without(typed: Cli) -> None:
    quick = ("model=linreg", "data=line", "trainer.steps=3", "callbacks=none", "device=cpu")

    refused, gone_without = (typed(*quick, f"trainer.cuda_graph={mode}") for mode in ("on", "auto"))

    assert refused.returncode == 2
    assert "trainer.cuda_graph=on needs a CUDA device, and this is cpu" in refused.stderr
    assert gone_without.returncode == 0
    assert "cuda_graph" not in gone_without.stdout + gone_without.stderr
