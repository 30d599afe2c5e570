"""Whole runs of two networks: their own settings, interruptions, and a discriminator that wins."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dltrain import training as run
from dltrain.core.update import Optimize
from dltrain.errors import ConfigError, UserError
from dltrain.runs.finding import latest
from dltrain.runs.load import load
from dltrain.tasks.gan import AdversarialGame
from tests.asking import assembled
from tests.conftest import Cli, Compose, Train
from tests.test_resume import assert_same

SMALL = (
    "model=gan",
    "model.generator_hidden=[16]",
    "model.discriminator_hidden=[16]",
    "data=digits",
    "data.limit=200",
    "data.batch_size=32",
    "callbacks=none",
    "device=cpu",
)
# Six batches an epoch, three epochs; everything that is random or carries state is on.
STATEFUL = (
    *SMALL,
    "model.dropout=0.3",
    "model.spectral_norm=true",
    "task.gradient_penalty=1",
    "task.n_critic=2",
    "modifiers.ema.decay=0.99",
    "trainer.epochs=3",
    "trainer.evaluate_every=1",
    "trainer.log_every=4",
    "trainer.accumulate=2",
    "trainer.clip_norm=1",
    "schedule=linear",
    "optimizer.generator.lr=1e-3",
    "optimizer.discriminator.weight_decay=0.01",
)
STEPS = 18


def trained(labels: str, compose: Compose, output_dir: Path) -> Path:
    run.train(compose(*STATEFUL, labels, f"output_dir={output_dir}"))
    return latest(output_dir)


def state_of(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


# Of 40 clusters, 8 are begun by the second batch of 32.
@pytest.mark.parametrize("labels", ["model.conditional=true", "model.clusters=40"])
def test_an_interruption_and_a_resume_leave_no_trace(
    labels: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(labels, compose, tmp_path / "whole")
    one = state_of(whole)
    assert one["training"] == {"batches": STEPS}
    assert one["modifiers"][0]["counts"] == {"generator": 5}
    assert any(name.endswith("._u") for name in one["task"])
    # Before the generator's first turn, amid an accumulation, and wherever chance will have it.
    for step in (1, 4, random.Random().randint(5, STEPS)):
        with monkeypatch.context() as patch:
            interrupt_after(patch, step)
            cut = trained(labels, compose, tmp_path / f"cut after {step}")
        assert state_of(cut)["loop"]["step"] == step

        assert run.resume(str(cut), tmp_path)["status"] == "finished"

        other = state_of(cut)
        one["loop"]["seconds"] = other["loop"]["seconds"]
        assert_same(one, other, f"after {step}")
        assert (whole / "metrics.csv").read_bytes() == (cut / "metrics.csv").read_bytes()


def interrupt_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    whole_step = AdversarialGame.train_step
    done = 0

    def train_step(self: AdversarialGame, *arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole_step(self, *arguments)

    monkeypatch.setattr(AdversarialGame, "train_step", train_step)


def optimizers(overrides: tuple[str, ...], compose: Compose) -> dict[str, torch.optim.Optimizer]:
    """By group, as a run would have them."""
    return optimize_of(compose(*SMALL, *overrides)).optimizers


def optimize_of(config: dict[str, Any]) -> Optimize:
    shown: Any = None  # nothing is told before a run begins
    return run.Run(config, assembled(config), shown, 0.0).optimize


def test_each_network_has_the_common_settings_unless_it_has_its_own(compose: Compose) -> None:
    common = optimizers(("optimizer.lr=3e-4",), compose)
    own = optimizers(
        (
            "optimizer.lr=3e-4",
            "optimizer.generator.lr=1e-3",
            "optimizer.discriminator.weight_decay=0.1",
            "+optimizer.discriminator.betas=[0.0,0.9]",
        ),
        compose,
    )

    for optimizer in common.values():
        assert isinstance(optimizer, torch.optim.Adam)
        assert [g["lr"] for g in optimizer.param_groups] == [3e-4]
        assert tuple(optimizer.param_groups[0]["betas"]) == (0.5, 0.999)
    generator, discriminator = own["generator"], own["discriminator"]
    assert [g["lr"] for g in generator.param_groups] == [1e-3]
    assert [g["lr"] for g in discriminator.param_groups] == [3e-4, 3e-4]
    assert tuple(generator.param_groups[0]["betas"]) == (0.5, 0.999)
    assert tuple(discriminator.param_groups[0]["betas"]) == (0.0, 0.9)
    # Weights decay, biases do not.
    assert [g["weight_decay"] for g in generator.param_groups] == [0.0]
    assert [g["weight_decay"] for g in discriminator.param_groups] == [0.1, 0.0]
    assert all(p.ndim > 1 for p in discriminator.param_groups[0]["params"])


def test_a_regularizer_joins_each_networks_own_decay(compose: Compose) -> None:
    both = optimizers(
        ("regularizer=l2", "regularizer.l2.strength=0.5", "optimizer.generator.weight_decay=0.1"),
        compose,
    )

    decays = {name: optimizer.param_groups[0]["weight_decay"] for name, optimizer in both.items()}
    assert decays == pytest.approx({"generator": 0.6, "discriminator": 0.5})


def test_another_optimizer_is_for_both_or_for_one(compose: Compose) -> None:
    both = optimizers(("optimizer=sgd", "optimizer.generator.lr=0.5"), compose)
    one = optimizers(
        ("optimizer=sgd", "+optimizer.discriminator._target_=torch.optim.RMSprop"), compose
    )

    assert {type(optimizer) for optimizer in both.values()} == {torch.optim.SGD}
    assert both["generator"].param_groups[0]["lr"] == 0.5
    assert both["discriminator"].param_groups[0]["lr"] == 0.1
    assert isinstance(one["generator"], torch.optim.SGD)
    assert isinstance(one["discriminator"], torch.optim.RMSprop)


def test_a_task_of_one_network_may_have_settings_by_its_name_too(compose: Compose) -> None:
    config = compose("model=mlp", "data=digits", "+optimizer.model.lr=0.7", "device=cpu")

    assert optimize_of(config).learning_rates() == {"model": 0.7}


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("+optimizer.generatr.lr=1", "optimizer.generatr: this task has no such group"),
        ("+optimizer.other.lr=1", "It has generator, discriminator."),
        ("+optimizer.generator.rate=1", "optimizer.generator.rate: Adam has no such argument"),
        ("optimizer.generator.lr=fast", "optimizer.generator.lr: expected a number"),
        ("optimizer.generator.lr=-1", "optimizer.generator.lr must be >= 0, got -1"),
    ],
)
def test_a_wrong_setting_of_one_network_is_one_fault(
    typed: str, message: str, compose: Compose
) -> None:
    with pytest.raises(ConfigError) as caught:
        assembled(compose(*SMALL, typed))

    assert len(caught.value.faults) == 1
    assert message in str(caught.value)


def test_a_mistyped_setting_of_one_network_is_one_good_line(typed: Cli) -> None:
    keys = ("optimizer.generatr.lr", "optimizer.generator.learning_rate")

    done = typed(*SMALL, *(f"{key}=1e-3" for key in keys))

    assert done.returncode == 2
    for key, line in zip(keys, done.stderr.splitlines(), strict=True):
        assert f"{key}: there is no such key." in line
        assert "Did you mean 'optimizer.generator.lr' (model/gan.yaml)?" in line


def test_what_is_typed_for_one_network_is_what_it_learns_by(train: Train) -> None:
    done = train(*SMALL, "optimizer.generator.lr=1e-3", "trainer.steps=4", "trainer.log_every=2")

    rates = {
        tuple(line.split(",")[3:])
        for line in (done.folder / "metrics.csv").read_text().splitlines()
        if "learning_rate" in line
    }
    assert rates == {
        ("learning_rate/generator", "0.001"),
        ("learning_rate/discriminator", "0.0002"),
    }
    own = yaml.safe_load((done.folder / "config.yaml").read_text())["optimizer"]["generator"]
    assert own == {"lr": 1e-3, "weight_decay": None}


@pytest.mark.parametrize("model", ["gan", "dcgan", "wgan_gp"])
def test_mixed_precision_accumulation_and_clipping_are_for_both(model: str, train: Train) -> None:
    small = SMALL[1:3] if model == "gan" else ("model.generator_width=8",)
    done = train(
        f"model={model}",
        *small,
        *SMALL[3:6],
        "trainer.precision=bfloat16",
        "trainer.accumulate=2",
        "trainer.clip_norm=1",
        "trainer.steps=12",
        "trainer.log_every=4",
    )

    moved = load(done.folder)
    rows = (done.folder / "metrics.csv").read_text()
    for group, parameters in moved.parameter_groups().items():
        assert f"gradient_norm/{group}" in rows
        assert all(bool(p.isfinite().all()) for p in parameters)
    assert all(value >= 0 for name, value in done.summary["test"].items() if "accuracy" in name)
    assert done.summary["parameters"] == sum(
        p.numel() for group in moved.parameter_groups().values() for p in group
    )


def test_a_loss_that_is_not_finite_says_what_to_try(train: Train) -> None:
    with pytest.raises(UserError, match=r"not finite at step[\s\S]*Lower optimizer.lr"):
        train(*SMALL, "optimizer.lr=1e30", "task.loss=wasserstein", "trainer.steps=20")


WINS = (
    *SMALL,
    "trainer.evaluate_every=1",
    "trainer.epochs=6",
    "callbacks.divergence.patience=2",
    "optimizer.lr=1e-8",
)


def test_a_discriminator_that_wins_is_named_with_what_to_try(train: Train) -> None:
    done = train(*WINS, "optimizer.discriminator.lr=0.01")

    said = [
        line
        for line in (done.folder / "train.log").read_text().splitlines()
        if "the discriminator has won" in line
    ]
    assert len(said) == 2, "when it is so, and at the end"
    for what in ("optimizer.discriminator.lr", "hinge", "label_smoothing", "spectral_norm"):
        assert all(what in line for line in said)


def test_a_fair_game_is_no_cause_for_alarm(train: Train) -> None:
    done = train(*WINS, "optimizer.lr=2e-4")

    assert "has won" not in (done.folder / "train.log").read_text()


def test_looking_at_gradients_is_no_turn(train: Train) -> None:
    few = (*SMALL, "task.n_critic=2", "trainer.steps=9", "trainer.evaluate_every=1")

    alone = load(train(*few).folder).state_dict()
    watched = train(*few, "callbacks=weights", "callbacks.weights.gradients=true")

    assert_same(alone, load(watched.folder).state_dict(), "task")
