"""Trials as text: a line as each ends, the best of all at the end, a file of all there is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from dltrain.contracts.task import Monitor
from dltrain.tuning.reporting import PRUNED, RUN
from dltrain.tuning.study import Order, typed
from dltrain.tuning.trials import ERROR

WIDTH = 80
SHOWN = 10
"""Trials of the table at the end."""
SECONDS = "seconds"
"""The attribute of a trial that says how long it took."""


def status(trial: FrozenTrial) -> str:
    """What has become of a trial, in a word."""
    if trial.user_attrs.get(ERROR) == "diverged":
        return "diverged"
    words = {TrialState.COMPLETE: "finished", TrialState.PRUNED: PRUNED, TrialState.FAIL: "failed"}
    return words.get(trial.state, "running")


def line(number: int, trial: FrozenTrial, order: Order, monitor: Monitor) -> str:
    """A trial that has ended, in a line of the terminal."""
    name = f"trial {number:>3}"
    took = f"{trial.user_attrs.get(SECONDS, 0.0):.1f} s"
    if status(trial) == "failed":
        return _cut(f"{name}  failed: {trial.user_attrs.get(ERROR, '')}".partition("\n")[0])
    value = "" if trial.value is None else f"{monitor.name} {trial.value:.4f}"
    ended = "" if status(trial) == "finished" else f"  {status(trial)}"
    return _cut(f"{name}  {value}{ended}  {took}  {settings(trial, order)}")


def settings(trial: FrozenTrial, order: Order) -> str:
    """The values of a trial, with keys as short as may be."""
    names = short(list(order.space))
    return " ".join(f"{names[key]}={_shown(value)}" for key, value in trial.params.items())


def short(keys: Sequence[str]) -> dict[str, str]:
    """Each key, without its group where no other key ends alike."""
    ends = [key.rpartition(".")[2] for key in keys]
    return {key: end if ends.count(end) == 1 else key for key, end in zip(keys, ends, strict=True)}


def table(best: Mapping[int, FrozenTrial], order: Order, monitor: Monitor) -> list[str]:
    """The best trials by their numbers, the first the best, as lines of the terminal."""
    lines = [f"trial  {monitor.name:>10}  seconds  settings"]
    for number, trial in list(best.items())[:SHOWN]:
        took = trial.user_attrs.get(SECONDS, 0.0)
        row = f"{number:>5}  {trial.value:>10.4f}  {took:>7.1f}  {settings(trial, order)}"
        lines.append(_cut(row))
    return lines


def rows(trials: Mapping[int, FrozenTrial], order: Order) -> list[dict[str, Any]]:
    """All that is known of each trial, by its number, for a file."""
    return [
        {
            "trial": number,
            "status": status(trial),
            "value": trial.value,
            "seconds": trial.user_attrs.get(SECONDS),
            **{key: trial.params.get(key) for key in order.space},
            "run": trial.user_attrs.get(RUN),
            "error": trial.user_attrs.get(ERROR),
        }
        for number, trial in trials.items()
    ]


def command(trial: FrozenTrial, order: Order) -> str:
    """What to type so as to train a trial's run again."""
    words = [*order.fixed, *(f"{key}={typed(value)}" for key, value in trial.params.items())]
    folder = [] if order.config_dir is None else ["--config-dir", order.config_dir]
    return shlex.join(["dltrain", *folder, *words])


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 1]}…"
