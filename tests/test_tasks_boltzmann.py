"""Boltzmann machines: energies by enumeration, contrastive divergence by hand, a stack's phases."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain import training as run
from dltrain.contracts.task import Phase, SamplesImages
from dltrain.errors import UserError
from dltrain.models.generative.boltzmann import DBN, RBM
from dltrain.models.layers.boltzmann import BoltzmannLayer, Units
from dltrain.models.mlp import MLP
from dltrain.optim.by_phase import by_phase
from dltrain.optim.schedules import Linear
from dltrain.runs.load import load
from dltrain.tasks.boltzmann import BoltzmannMachine
from dltrain.tasks.deep_belief import DeepBelief
from dltrain.tasks.losses.contrastive_divergence import ContrastiveDivergence
from tests.conftest import Compose, Train
from tests.making import evaluated, image_spec

SPEC = image_spec((1, 2, 3), ["zero", "one"], [0.4], [0.2])
STATES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3)))


def machine(visible: Units = "bernoulli", hidden: Units = "bernoulli") -> BoltzmannLayer:
    """Three visible units and three hidden ones, which have much to say."""
    torch.manual_seed(0)
    found = BoltzmannLayer(3, 3, visible, hidden)
    for parameter in found.parameters():
        nn.init.normal_(parameter)
    return found.requires_grad_(False)


def energy(layer: BoltzmannLayer, visible: Tensor, hidden: Tensor) -> Tensor:
    """As the definition has it, for all pairs (visible, hidden)."""
    told = -visible @ layer.weight.t() @ hidden.t()
    mine = -(visible @ layer.visible_bias)
    if layer.visible_units == "gaussian":
        mine = mine + visible.square().sum(1) / 2
    return told + mine[:, None] - (hidden @ layer.hidden_bias)[None]


@pytest.mark.parametrize("units", ["bernoulli", "gaussian"])
def test_the_free_energy_is_that_of_all_hidden_states(units: Units) -> None:
    layer = machine(units)
    visible = torch.randn(5, 3) if units == "gaussian" else STATES
    expected = -(-energy(layer, visible, STATES)).logsumexp(1)
    assert layer.free_energy(visible).allclose(expected, atol=1e-5)


def test_gaussian_hidden_units_sum_to_their_integral() -> None:
    layer = machine("bernoulli", "gaussian")
    grid = torch.linspace(-9, 9, 2001, dtype=torch.float64)
    inputs = layer.hidden_input(STATES).double()
    each = (inputs[..., None] * grid - grid.square() / 2).exp().sum(-1) * (grid[1] - grid[0])
    integral = each.log().sum(1) + STATES.double() @ layer.visible_bias.double()
    found = -layer.free_energy(STATES).double()
    assert (integral - found).allclose((integral - found)[:1].expand(8), atol=1e-4)


def test_gibbs_chains_come_to_the_machines_own_distribution() -> None:
    layer = machine()
    generator = torch.Generator().manual_seed(1)
    means = layer.chain(torch.zeros(20_000, 3), 20, generator)
    found = layer.draw_visible(means, generator) @ torch.tensor([4.0, 2.0, 1.0])
    frequencies = found.long().bincount(minlength=8) / len(found)
    expected = (-layer.free_energy(STATES)).softmax(0)
    assert (frequencies - expected).abs().max() < 0.015


def test_the_gradient_is_what_the_data_say_minus_what_the_machine_says() -> None:
    layer = machine().requires_grad_(True)
    visible = STATES[1:7]
    torch.manual_seed(3)
    terms = ContrastiveDivergence()(layer, visible)
    terms.loss.backward()
    torch.manual_seed(3)
    with torch.no_grad():
        up = layer(visible)
        made = layer.down((torch.rand(up.shape) < up).float())
        expected = (layer(made).t() @ made - up.t() @ visible) / len(visible)
    assert layer.weight.grad is not None
    assert layer.visible_bias.grad is not None
    assert layer.weight.grad.allclose(expected, atol=1e-6)
    assert layer.visible_bias.grad.allclose((made - visible).mean(0), atol=1e-6)
    assert float(terms.reconstruction) == pytest.approx(float((made - visible).square().mean()))


def test_persistent_chains_go_on_and_have_another_batchs_size() -> None:
    divergence = ContrastiveDivergence(2, persistent=True)
    divergence(machine(), STATES)
    first = divergence.chains
    divergence(machine(), STATES[:3])
    assert first is not None
    assert divergence.chains is not None
    assert first.shape == divergence.chains.shape == (8, 3)
    assert set(first.unique().tolist()) <= {0.0, 1.0}
    assert not first.equal(divergence.chains)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BoltzmannLayer(2, 2, "gaussian", "gaussian"), "not both gaussian"),
        (lambda: RBM((1, 2, 3), SPEC, 0), "hidden must be at least 1, got 0"),
        (lambda: DBN((1, 2, 3), SPEC, 2, []), "machines must be at least 1, got 0"),
        (lambda: DBN((1, 2, 3), SPEC, 2, [3, 0]), "hidden needs at least one unit a layer"),
        (lambda: ContrastiveDivergence(0), "cd_steps must be at least 1, got 0"),
        (lambda: BoltzmannMachine(MLP([6], 2), SPEC), "MLP is no restricted .* model=rbm"),
        (lambda: BoltzmannMachine(DBN((1, 2, 3), SPEC, 2, [3, 2]), SPEC), "DBN is no .* model=rbm"),
        (
            lambda: DeepBelief(RBM((1, 2, 3), SPEC), SPEC),
            "RBM is no deep .* model=dbn",
        ),
        (lambda: belief(pretraining_epochs=[1]), "has 1 numbers, and model.hidden has 2 machines"),
        (lambda: belief(pretraining_epochs=-1), "pretraining_epochs must be >= 0, got -1"),
        (lambda: belief(gibbs_steps=0), "gibbs_steps must be at least 1, got 0"),
        (lambda: belief().sample(2, 0, torch.tensor([0, 1])), "knows no classes"),
    ],
)
def test_what_is_impossible_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def belief(**settings: Any) -> DeepBelief:
    torch.manual_seed(0)
    return DeepBelief(DBN((1, 2, 3), SPEC, 2, [4, 3]), SPEC, **settings)


def batch(count: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(count, 1, 2, 3, generator=generator)
    return {"input": (images - 0.4) / 0.2, "target": torch.arange(count) % 2}


@pytest.mark.parametrize("visible", ["bernoulli", "gaussian"])
def test_a_machine_is_evaluated_and_sampled_alike_each_time(visible: Units) -> None:
    torch.manual_seed(0)
    task = BoltzmannMachine(RBM((1, 2, 3), SPEC, 4, visible), SPEC, gibbs_steps=3)
    state = torch.get_rng_state()
    one, other = evaluated(task, batch()), evaluated(task, batch())
    assert one.scalars == other.scalars
    assert ("pseudo_likelihood" in one.scalars) == (visible == "bernoulli")
    assert isinstance(task, SamplesImages)
    made = task.sample(5, 1).columns["image"]
    assert made.shape == (5, 1, 2, 3)
    assert made.equal(task.sample(5, 1).columns["image"])
    assert not made.equal(task.sample(5, 2).columns["image"])
    assert task.interpolate(2, 3, 0).columns["image"].shape == (6, 1, 2, 3)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1
    assert torch.get_rng_state().equal(state)


def test_the_pseudo_likelihood_is_that_of_single_pixels() -> None:
    task = BoltzmannMachine(RBM((1, 2, 3), SPEC, 4), SPEC)
    for parameter in task.parameters():
        nn.init.zeros_(parameter)
    # Every pixel is 0 or 1 with even chances, whatever the others are.
    expected = 6 * torch.tensor(0.5).log()
    found = evaluated(task, batch()).scalars["pseudo_likelihood"]
    assert found == pytest.approx(float(expected), abs=1e-5)


def test_phases_are_a_machine_each_and_what_is_left() -> None:
    task = belief(pretraining_epochs=[2, 0])
    assert task.phases(9, {"train": 3}) == [
        Phase("rbm1", 6, scheduled=True),
        Phase("fine-tune", 3, scheduled=True),
    ]
    with pytest.raises(ValueError, match=r"2 \+ 0 epochs of 3 steps leave none of the run's 6"):
        task.phases(6, {"train": 3})
    with pytest.raises(ValueError, match="never ends"):
        task.phases(6, {"train": None})


def test_what_a_machine_has_learned_is_the_classifiers() -> None:
    task, seen = belief(), []
    for name in ("rbm1", "rbm2"):
        task.enter(Phase(name, 1))
        task.train_step(batch(), lambda loss, name="model", weight=None: seen.append(name))
        task.leave(Phase(name, 1))
    images = batch()["input"]
    net: Any = task.model
    top = net.up(net.visible(images), 2)
    assert task(batch())["logits"].equal(net.classifier.layers[-1](top))
    task.enter(Phase("fine-tune", 1))
    told = task.train_step(batch(), lambda loss, name="model", weight=None: seen.append(name))
    assert seen == ["rbm1", "rbm2", "model"]
    weights = {name: float(told[name][1]) for name in told}
    assert {name for name, weight in weights.items() if weight} == {"loss", "accuracy"}


def test_each_phase_has_the_whole_schedule() -> None:
    def make(total_steps: int) -> Linear:
        return Linear(total_steps=total_steps, steps_per_epoch=1)

    phases = [Phase("a", 4, scheduled=True), Phase("b", 2), Phase("c", 3, scheduled=True)]
    found = by_phase(phases, make)
    rates = [found(step) for step in range(9)]
    run = make(9)
    assert rates == [1, 0.75, 0.5, 0.25, run(4), run(5), 1, make(3)(1), make(3)(2)]
    assert type(by_phase([Phase("train", 4)], make)) is Linear


def test_a_run_tells_of_each_phase_what_it_is_about(
    train: Train,
) -> None:
    folder = train(
        "model=dbn",
        "model.hidden=[8,6]",
        "data=digits",
        "data.limit=200",
        "task.pretraining_epochs=1",
        "trainer.epochs=3",
        "trainer.evaluate_every=1",
    ).folder
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    told = {(row["epoch"], row["name"]) for row in rows if row["split"] in ("train", "validation")}
    assert {name for epoch, name in told if epoch == "1"} == {
        "reconstruction/rbm1",
        "free_energy/rbm1",
    }
    assert ("3", "accuracy") in told
    assert ("3", "reconstruction/rbm1") not in told
    # Norms of a phase that is over are none of the next.
    norms = {row["epoch"].split(".")[0]: row["name"] for row in rows if "norm" in row["name"]}
    assert norms["2"] in ("gradient_norm/rbm2", "gradient_norm/model")
    assert not any(row["name"] == "gradient_norm/rbm1" and float(row["epoch"]) > 1 for row in rows)
    task = load(folder)
    assert isinstance(task, DeepBelief)
    assert task.sample(2, 0).columns["image"].shape == (2, 1, 8, 8)


def test_too_few_epochs_are_refused_before_there_is_a_folder(
    compose: Compose, tmp_path: Path
) -> None:
    config = compose("model=dbn", "data=digits", "callbacks=none", "trainer.epochs=30")
    with pytest.raises(UserError, match=r"task\.pretraining_epochs: .* Set trainer\.epochs above"):
        run.train({**config, "output_dir": str(tmp_path)})
    assert not list(tmp_path.iterdir())
