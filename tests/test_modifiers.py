"""EMA: by hand, in and out of a task, through a checkpoint, and in whole runs."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from dltrain import training as run
from dltrain.assemble import Assembly
from dltrain.contracts.data import Placement
from dltrain.contracts.run import Group
from dltrain.contracts.task import Task
from dltrain.core.evaluate import evaluate
from dltrain.errors import ConfigError, UserError
from dltrain.models.generative.gan import GAN
from dltrain.optim.modifiers import EMA, CheckpointAverage
from dltrain.runs.load import load
from dltrain.tasks.gan import AdversarialGame
from tests.conftest import Compose, Train
from tests.making import image_spec

SHAPE = (1, 4, 4)


def game(**settings: Any) -> AdversarialGame:
    torch.manual_seed(0)
    small: dict[str, Any] = {"generator_hidden": [8], "discriminator_hidden": [8], "noise_size": 4}
    spec = image_spec(SHAPE, ["zero", "one"])
    return AdversarialGame(GAN(spec, **small, **settings), spec)


def begun(ema: EMA, task: Task) -> EMA:
    ema.attach(task)
    groups = task.parameter_groups()
    ema.start({name: Group(parameters, parameters) for name, parameters in groups.items()})
    return ema


def moved(task: Task, ema: EMA, *groups: str) -> None:
    """As if the groups had been stepped, and their running statistics had moved."""
    with torch.no_grad():
        for value in task.state_dict().values():
            if value.is_floating_point():
                value.add_(torch.rand(value.shape))
        for name in groups:
            ema.after_update(name)


def copied(task: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


def test_the_average_follows_the_weights_slowly_but_not_at_first() -> None:
    task = game()
    ema = begun(EMA(0.9, ["generator"]), task)
    names = [name for name in task.state_dict() if "generator" in name and "batches" not in name]
    by_hand = copied(task)

    for number in range(1, 101):
        moved(task, ema, "discriminator", "generator")
        decay = min(0.9, (1 + number) / (10 + number))
        now = task.state_dict()
        for name in names:
            by_hand[name] = decay * by_hand[name] + (1 - decay) * now[name]

    weights = copied(task)
    with ema.evaluation_weights():
        averaged = copied(task)
    assert any("running_mean" in name for name in names)
    for name, weight in weights.items():
        if name in names:
            torch.testing.assert_close(averaged[name], by_hand[name])
            assert not torch.equal(averaged[name], weight)
        else:
            assert torch.equal(averaged[name], weight), name
        assert torch.equal(task.state_dict()[name], weight), "back to the last bit"


def test_a_norm_without_a_scale_is_of_the_module_around_it() -> None:
    task = game(conditional=True)
    ema = begun(EMA(0.9, ["generator"]), task)
    moved(task, ema, "generator")

    (averages,) = ema.state_dict()["averages"].values()

    network = {
        f"model.generator.{name}"
        for name, value in task.model.generator.state_dict().items()
        if value.is_floating_point()
    }
    assert set(averages) == network
    assert any(name.endswith("norm.running_var") for name in network)


def test_all_groups_are_averaged_each_at_its_own_steps_and_nothing_else() -> None:
    task = game(clusters=3)
    before = copied(task)
    ema = begun(EMA(0.0), task)
    moved(task, ema, "discriminator")

    with ema.evaluation_weights():
        inside = copied(task)
    now = task.state_dict()

    for name in before:
        as_began = "generator" in name and now[name].is_floating_point()
        assert torch.equal(inside[name], (before if as_began else now)[name]), name
    held = [name for group in ema.state_dict()["averages"].values() for name in group]
    assert not any("_clusters" in name or "_pixels" in name for name in held)


def test_a_new_task_is_given_the_averages() -> None:
    task, ema = game(), EMA(0.9, ["generator"])
    begun(ema, task)
    moved(task, ema, "generator", "discriminator")
    with ema.evaluation_weights():
        averaged = copied(task)
    weights = copied(task)
    file = io.BytesIO()
    torch.save({"task": task.state_dict(), "ema": ema.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)

    fresh = game()
    fresh.load_state_dict(saved["task"])
    again = begun(EMA(0.9, ["generator"]), fresh)
    again.load_state_dict(saved["ema"])
    assert all(torch.equal(fresh.state_dict()[name], weights[name]) for name in weights)
    with again.evaluation_weights():
        assert all(torch.equal(fresh.state_dict()[name], averaged[name]) for name in averaged)


def test_a_restored_average_goes_on_in_place() -> None:
    task, ema = game(), EMA(0.9)
    begun(ema, task)
    moved(task, ema, "generator", "discriminator")
    state = {name: value.clone() for name, value in task.state_dict().items()}
    other = begun(EMA(0.9), twin := game())
    places = [
        v.data_ptr() for group in other.state_dict()["averages"].values() for v in group.values()
    ]

    twin.load_state_dict(state)
    other.load_state_dict(ema.state_dict())
    for one, average in ((task, ema), (twin, other)):
        torch.manual_seed(1)
        moved(one, average, "generator")

    found = other.state_dict()
    assert places == [v.data_ptr() for group in found["averages"].values() for v in group.values()]
    torch.testing.assert_close(found, ema.state_dict(), rtol=0, atol=0)


def test_what_cannot_be_averaged_is_one_message() -> None:
    for decay in (-0.1, 1.0):
        with pytest.raises(ValueError, match="decay must be from 0 to below 1"):
            EMA(decay)
    with pytest.raises(ValueError, match="no group 'generatr' of parameters; it has generator"):
        EMA(groups=["generatr"]).attach(game())


SMALL = (
    *("model=gan", "model.generator_hidden=[16]", "model.discriminator_hidden=[16]"),
    *("data=digits", "data.limit=200", "data.batch_size=32", "trainer.evaluate_every=1"),
)


def test_a_group_that_is_not_there_is_a_fault_of_the_config(compose: Compose) -> None:
    with pytest.raises(ConfigError) as caught:
        run.train(compose(*SMALL, "device=cpu", "modifiers.ema.groups=[model]"))

    assert "modifiers.ema.groups: this task has no group 'model'" in str(caught.value)


def test_a_run_trains_as_without_it_and_is_evaluated_and_used_with_it(train: Train) -> None:
    few = (*SMALL, "trainer.epochs=3")
    with_it = train(*few, "modifiers.ema.decay=0.9").folder
    without = train(*few, "modifier=none").folder

    states = [
        torch.load(folder / "checkpoints" / "last.pt", weights_only=True)
        for folder in (with_it, without)
    ]
    for name, value in states[0]["task"].items():
        if isinstance(value, Tensor):
            assert torch.equal(value, states[1]["task"][name]), name
    last, best = (load(with_it, weights).state_dict() for weights in ("last", "best"))
    averages = states[0]["modifiers"][0]["averages"]["generator"]
    assert all(torch.equal(last[name], average) for name, average in averages.items())
    assert not torch.equal(
        last["model.generator.layers.0.weight"],
        states[0]["task"]["model.generator.layers.0.weight"],
    )
    kept = torch.load(with_it / "checkpoints" / "best.pt", weights_only=True)["task"]
    assert all(torch.equal(best[name], value) for name, value in kept.items() if name in averages)
    rows = [(f / "metrics.csv").read_text().splitlines() for f in (with_it, without)]
    told = [[row for row in some if ",train,loss" in row] for some in rows]
    assert told[0] == told[1] != []


@pytest.mark.parametrize("weights", ["last", "best"])
def test_the_test_split_is_evaluated_with_the_weights_that_are_loaded(
    weights: str, train: Train, compose: Compose
) -> None:
    few = (*SMALL, "trainer.epochs=3", f"trainer.test_weights={weights}", "data.validation=0.2")
    # From good weights to bad ones.
    done = train(*few, "modifiers.ema.decay=0.5", "optimizer.lr=0.05", "schedule=constant")
    with Assembly(compose(*few, "device=cpu")) as assembly:
        streams = assembly.read().source.open(Placement(torch.device("cpu"), 0))
    task = load(done.folder, weights)

    with torch.inference_mode():
        found = evaluate(task, streams["test"], seed=0, epoch=3, final=True).scalars

    assert found == pytest.approx(done.summary["test"], rel=1e-6)


class Moment(NamedTuple):
    """How far a run is, for what looks at no more."""

    step: int
    steps_per_epoch: int | None = 4


def test_the_last_checkpoints_are_averaged_with_the_weights_of_now() -> None:
    task, average = game(), CheckpointAverage(count=3, every_epochs=0.5)
    average.attach(task)
    average.start({})
    _name, weight = next(iter(task.named_parameters()))
    seen = []
    for step in range(8):
        average.before_step(Moment(step))  # type: ignore[arg-type]
        with torch.no_grad():
            weight.fill_(step + 1)  # the step that is made
        with average.evaluation_weights():
            seen.append(float(weight.mean()))
        assert float(weight.detach().mean()) == step + 1

    # Weights 2, 4 and 6 stand at the moments; of those two, and that of now, are averaged.
    assert seen == pytest.approx([1, 2, 2.5, 3, 11 / 3, 4, 17 / 3, 6])
    again = CheckpointAverage(count=3)
    again.attach(task)
    again.start({})
    again.load_state_dict(average.state_dict())
    with again.evaluation_weights():
        assert float(weight.detach().mean()) == pytest.approx(6)


def test_averages_of_nothing_are_refused() -> None:
    wrong: dict[str, Any]
    for wrong in ({"count": 1}, {"every_epochs": 0}, {"every_steps": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            CheckpointAverage(**wrong)
    with pytest.raises(UserError, match="give every_steps"):
        CheckpointAverage().before_step(Moment(1, None))  # type: ignore[arg-type]
