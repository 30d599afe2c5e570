"""By which metric weights are best: the task's, or any that the evaluation gives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.callbacks.early_stopping import EarlyStopping
from dltrain.contracts.data import DataSpec
from dltrain.contracts.metric import Mode
from dltrain.contracts.run import Setup
from dltrain.contracts.task import Monitor
from dltrain.core.settings import Settings
from dltrain.errors import UserError
from dltrain.metrics.classification import ConfusionMatrix
from dltrain.metrics.regression import Errors
from dltrain.runs.monitor import chosen_monitor
from dltrain.tasks.classification import Classification
from dltrain.tasks.regression import Regression
from tests.asking import classes, numbers

OWN = Monitor("loss", "min")
BETTER = {**ConfusionMatrix.better, **Errors.better, "loss": "min"}
METRICS = ["loss", "accuracy", "precision", "recall", "f1", "tokens"]


def settings(**given: Any) -> Settings:
    return Settings(torch.device("cpu"), **given)


def chosen(monitor: str | None = None, monitor_mode: Mode | None = None) -> Monitor:
    return chosen_monitor(OWN, monitor, monitor_mode, METRICS, BETTER)


@pytest.mark.parametrize(
    ("given", "monitor"),
    [
        ({}, OWN),
        ({"monitor": "f1"}, Monitor("f1", "max")),
        ({"monitor": "loss"}, Monitor("loss", "min")),
        ({"monitor": "tokens", "monitor_mode": "max"}, Monitor("tokens", "max")),
        ({"monitor": "f1", "monitor_mode": "min"}, Monitor("f1", "min")),
    ],
)
def test_any_metric_may_be_the_monitor_and_says_which_way(
    given: dict[str, Any], monitor: Monitor
) -> None:
    assert chosen(**given) == monitor


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"monitor": "F1"}, "no metric 'F1'. Did you mean 'f1'? There are loss, accuracy"),
        ({"monitor": "tokens"}, r"trainer.monitor_mode=max or min"),
    ],
)
def test_a_monitor_that_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        chosen(**given)


def test_a_monitor_needs_a_validation_split_and_a_mode_a_monitor() -> None:
    with pytest.raises(UserError, match=r"trainer.monitor: there is no validation split"):
        settings(monitor="f1").check({"train", "test"}, 3)
    with pytest.raises(ValueError, match="monitor_mode is of a monitor"):
        settings(monitor_mode="max")
    with pytest.raises(ValueError, match="mode is of a monitor"):
        EarlyStopping(mode="max")


def test_every_metric_of_classes_and_numbers_says_which_way_is_better() -> None:
    tasks = (
        Classification(nn.Linear(2, 2), classes("ab", 2)),
        Regression(nn.Linear(2, 1), numbers(2)),
    )
    for task in tasks:
        for metric in task.metrics(False):
            assert set(metric.names) <= set(metric.better)


@pytest.mark.parametrize(("given", "mode"), [({}, "max"), ({"mode": "min"}, "min")])
def test_early_stopping_takes_the_direction_from_the_metric(
    given: dict[str, Any], mode: str
) -> None:
    callback = EarlyStopping(monitor="f1", **given)
    callback.check(Setup(DataSpec({}), frozenset({"validation"}), METRICS, ["model"], BETTER))
    assert callback._monitor == Monitor("f1", mode)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"early_stopping.mode=max or min"):
        EarlyStopping(monitor="tokens").check(
            Setup(DataSpec({}), frozenset({"validation"}), METRICS, ["model"], BETTER)
        )


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_what_is_not_finite_is_never_better(mode: Any, value: float) -> None:
    monitor = Monitor("loss", mode)
    assert not monitor.better(value, None)
    assert not monitor.better(value, 1.0)
    assert monitor.better(1.0, None)
