"""When a discriminator has won, and when it only seems so."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from dltrain.callbacks.divergence import Divergence
from dltrain.contracts.data import DataSpec
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Setup
from dltrain.errors import UserError
from tests.conftest import Train
from tests.watching import FakeView

Accuracies = tuple[float, float]
"""Of real images, and of made ones."""


def evaluation(real: float, made: float) -> Evaluation:
    return Evaluation({"accuracy_real": real, "accuracy_fake": made})


@pytest.fixture
def played(caplog: pytest.LogCaptureFixture) -> Any:
    """``played(callback, view, (1.0, 0.5), …)``: what is said of such evaluations."""

    def what_is_said(
        callback: Divergence, view: FakeView, *accuracies: Accuracies, split: str = "validation"
    ) -> list[str]:
        caplog.clear()
        for real, made in accuracies:
            callback.evaluated(view, split, evaluation(real, made))
        assert {record.levelname for record in caplog.records} <= {"WARNING"}
        assert {record.name for record in caplog.records} <= {"dltrain.callbacks.divergence"}
        return [record.getMessage() for record in caplog.records]

    return what_is_said


def test_a_task_without_accuracies_is_refused_before_the_run() -> None:
    spec, groups = DataSpec({}), ["generator", "discriminator"]
    setup = Setup(spec, frozenset({"train", "validation"}), ["loss"], groups)
    with pytest.raises(UserError, match="no accuracy_real and no accuracy_fake"):
        Divergence().check(setup)
    Divergence(accuracy=None).check(setup)
    Divergence(accuracy=None).evaluated(FakeView(), "validation", Evaluation({"loss": 1.0}))


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
    ("splits", "split", "other"),
    [
        (("train", "validation", "test"), "validation", "train"),
        (("train", "test"), "train", "test"),
    ],
    ids=["validation split", "none"],
)
def test_being_right_about_everything_for_a_while_is_a_victory(
    accuracies: list[Accuracies],
    won: bool,
    splits: tuple[str, ...],
    split: str,
    other: str,
    played: Any,
) -> None:
    callback, view = Divergence(), FakeView(splits=dict.fromkeys(splits, 4))

    assert played(callback, view, *[(1.0, 1.0)] * 5, split=other) == []
    said = played(callback, view, *accuracies, split=split)

    assert len(said) == won
    # At the end it is said again, and nowhere else.
    assert played(callback, view, (0.5, 0.5), split="test") == said


def test_what_was_a_victory_once_and_no_longer_is_none_at_the_end(played: Any) -> None:
    callback, view = Divergence(patience=2), FakeView()

    (line,) = played(callback, view, *[(1.0, 1.0)] * 4, (0.6, 0.7))

    assert "for 2 evaluations it is right about 100.0% of the real images" in line
    assert played(callback, view, (1.0, 1.0), split="test") == []


@pytest.mark.parametrize(("norm", "won"), [(1e-5, True), (0.01, False)])
def test_a_gradient_that_has_vanished_is_a_victory_too(norm: float, won: bool, played: Any) -> None:
    callback, view = Divergence(patience=2, accuracy=None), FakeView()

    callback.log(view, {"gradient_norm/generator": 2.0})
    assert played(callback, view, *[(1.0, 1.0)] * 5) == []
    callback.log(view, {"gradient_norm/generator": norm})
    callback.log(view, {"loss_generator": 1.0})  # a step without a turn
    said = played(callback, view, *[(0.6, 0.6)] * 2)

    assert len(said) == won
    assert all("gradient has vanished (norm 1.0e-05)" in line for line in said)


def test_counting_survives_a_resume(played: Any) -> None:
    callback, view = Divergence(), FakeView()
    callback.log(view, {"gradient_norm/generator": 2.0})
    played(callback, view, *[(1.0, 1.0)] * 2)
    state = callback.state_dict()
    torch.save(state, buffer := io.BytesIO())
    buffer.seek(0)

    again = Divergence()
    again.load_state_dict(torch.load(buffer, weights_only=True))

    assert len(played(again, view, (1.0, 1.0))) == 1


@pytest.mark.parametrize("settings", [{"patience": 0}, {"accuracy": 0.0}, {"vanished": 1.0}])
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Divergence(**settings)


def test_one_network_alone_has_no_opponent(train: Train) -> None:
    with pytest.raises(UserError, match=r"callbacks\.divergence: it watches a generator"):
        train("model=mlp", "callbacks=divergence", "trainer.steps=1")
