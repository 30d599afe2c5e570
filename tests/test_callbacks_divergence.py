"""When a discriminator has won, and when it only seems so."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.callbacks.console import Console
from dltrain.callbacks.divergence import Divergence
from dltrain.contracts.metric import Evaluation
from dltrain.errors import UserError
from tests.conftest import Train


class Said(Console):
    """A console that only remembers."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        self.lines.append(line)


class Game(nn.Module):
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"generator": [], "discriminator": []}


def trainer(validation: object = object()) -> Any:
    return SimpleNamespace(
        callbacks=[Said()], task=Game(), loaders=SimpleNamespace(validation=validation)
    )


def played(
    callback: Divergence, run: Any, *accuracies: tuple[float, float], split: str = "validation"
) -> list[str]:
    """What was said while the discriminator was right about so much of real and of made."""
    for real, made in accuracies:
        scalars = {"accuracy_real": real, "accuracy_fake": made}
        callback.evaluate(run, split, Evaluation(scalars))
    return run.callbacks[0].lines


@pytest.mark.parametrize(
    ("accuracies", "won"),
    [
        ([(1.0, 1.0)] * 3, True),
        ([(0.5, 0.5), *[(0.99, 0.995)] * 3], True),
        ([(1.0, 1.0)] * 2, False),
        ([(1.0, 1.0), (1.0, 1.0), (0.9, 1.0), (1.0, 1.0)], False),
        ([(0.7, 1.0)] * 5, False),
        ([(1.0, 0.7)] * 5, False),
    ],
)
@pytest.mark.parametrize(
    ("validation", "split", "other"),
    [(object(), "validation", "train"), (None, "train", "test")],
    ids=["validation split", "none"],
)
def test_being_right_about_everything_for_a_while_is_a_victory(
    accuracies: list[tuple[float, float]], won: bool, validation: object, split: str, other: str
) -> None:
    callback, run = Divergence(), trainer(validation)
    callback.start(run)

    assert played(callback, run, *[(1.0, 1.0)] * 5, split=other) == []
    said = played(callback, run, *accuracies, split=split)

    assert len(said) == won
    assert bool(callback.judge(run, "test").warnings) == won
    assert not callback.judge(run, "validation").warnings


def test_what_was_a_victory_once_and_no_longer_is_none_at_the_end() -> None:
    callback, run = Divergence(patience=2), trainer()
    callback.start(run)

    (line,) = played(callback, run, *[(1.0, 1.0)] * 4, (0.6, 0.7))

    assert "for 2 evaluations it is right about 100.0% of the real pictures" in line
    assert callback.judge(run, "test") == Evaluation(scalars={}, warnings=[])


@pytest.mark.parametrize(("norm", "won"), [(1e-5, True), (0.01, False)])
def test_a_gradient_that_has_vanished_is_a_victory_too(norm: float, won: bool) -> None:
    callback, run = Divergence(patience=2, accuracy=None), trainer()
    callback.start(run)

    callback.log(run, {"gradient_norm/generator": 2.0})
    assert played(callback, run, *[(1.0, 1.0)] * 5) == []
    callback.log(run, {"gradient_norm/generator": norm})
    callback.log(run, {"loss_generator": 1.0})  # a step without a turn
    said = played(callback, run, *[(0.6, 0.6)] * 2)

    assert len(said) == won
    assert all("gradient has vanished (norm 1.0e-05)" in line for line in said)


def test_counting_survives_a_resume() -> None:
    callback, run = Divergence(), trainer()
    callback.start(run)
    callback.log(run, {"gradient_norm/generator": 2.0})
    played(callback, run, *[(1.0, 1.0)] * 2)
    state = callback.state_dict()
    torch.save(state, buffer := io.BytesIO())
    buffer.seek(0)

    again = Divergence()
    again.start(run)
    again.load_state_dict(torch.load(buffer, weights_only=True))

    assert len(played(again, run, (1.0, 1.0))) == 1


@pytest.mark.parametrize("settings", [{"patience": 0}, {"accuracy": 0.0}, {"vanished": 1.0}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Divergence(**settings)


def test_one_network_alone_has_no_opponent(train: Train) -> None:
    with pytest.raises(UserError, match=r"callbacks\.divergence: it watches a generator"):
        train("model=mlp", "callbacks=divergence", "trainer.steps=1")
