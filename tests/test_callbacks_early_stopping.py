"""When a run that no longer improves is over."""

from __future__ import annotations

from typing import Any

import pytest

from dltrain.callbacks.early_stopping import EarlyStopping
from dltrain.contracts.metric import Evaluation
from tests.watching import FakeView


def stopped_at(callback: EarlyStopping, *losses: float | None) -> int | None:
    """At which of these evaluations, counted from 1; None: one that says nothing of the loss."""
    view = FakeView()
    for number, loss in enumerate(losses, start=1):
        scalars = {} if loss is None else {"loss": loss}
        callback.evaluated(view, "train", Evaluation({"loss": 0.0}))
        callback.evaluated(view, "validation", Evaluation(scalars))
        if view.stop_reason:
            return number
    return None


@pytest.mark.parametrize(
    ("settings", "losses", "stopped"),
    [
        ({}, [3, 2, 2, 2, 1], 4),
        ({}, [3, 2, 2, 1, 1, 1], 6),
        ({"min_delta": 0.5}, [3, 2.9, 2.8, 2.7], 3),
        ({"monitor": "loss", "mode": "max"}, [1, 2, 3, 3, 3], 5),
        ({}, [3, float("nan"), float("nan")], 3),
        ({}, [3, 2, 1], None),
    ],
)
def test_a_run_ends_once_it_has_not_improved_for_so_many_evaluations(
    settings: dict[str, Any], losses: list[float], stopped: int | None
) -> None:
    assert stopped_at(EarlyStopping(patience=2, **settings), *losses) == stopped


def test_an_evaluation_that_says_nothing_of_the_metric_does_not_count() -> None:
    """As in a phase of a run that is about something else."""
    assert stopped_at(EarlyStopping(patience=2), None, 3, 2, None, 2, None, None, None, 2) == 9
