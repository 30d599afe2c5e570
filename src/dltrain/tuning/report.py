"""What a search has found: a table, the best command line, figures, a file of all trials."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from operator import methodcaller
from typing import Any

from optuna import Study
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from dltrain.contracts.task import Monitor
from dltrain.errors import UserError, printable_lines
from dltrain.reports.canvas import png
from dltrain.reports.study import draw_history, draw_importance
from dltrain.runs.folder import RunFolder
from dltrain.tuning.reporting import RUN
from dltrain.tuning.study import Order
from dltrain.tuning.table import command, rows, status, table
from dltrain.tuning.trials import ERROR, counted

FEWEST = 8
"""Finished trials from which importance is told."""


def report(order: Order, study: Study, monitor: Monitor) -> int:
    """Print what the trials have reached, and write it; return the exit code.

    Raises :class:`UserError` where no trial has finished.
    """
    trials = dict(enumerate(counted(study)))
    left = order.trials - sum(trial.state.is_finished() for trial in trials.values())
    best = _ranked(trials, monitor)
    order.folder.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(order.folder)
    folder.write_table("trials", rows(trials, order))
    figures = _figures(order, study, monitor, trials, folder)
    for trial in list(best.values())[:1]:
        folder.write_text("best.txt", f"{command(trial, order)}\n")
    if order.json:
        print(json.dumps(_as_json(order, monitor, trials, best), indent=2))
    else:
        _print(order, monitor, trials, best, figures)
    if left > 0:
        print(f"{left} of {order.trials} trials are left: type the same again.", file=sys.stderr)
        return 1
    if not best:
        errors = [t.user_attrs[ERROR] for t in trials.values() if ERROR in t.user_attrs]
        first = f" The first: {errors[0]}" if errors else ""
        raise UserError(f"tune: no trial has finished.{first}")
    shutil.rmtree(order.folder / "locks", ignore_errors=True)
    return 0


def _ranked(trials: Mapping[int, FrozenTrial], monitor: Monitor) -> dict[int, FrozenTrial]:
    """The finished trials by their numbers, the best first, of equal ones the earliest."""
    sign = -1 if monitor.mode == "max" else 1
    found = [(n, t) for n, t in trials.items() if t.state == TrialState.COMPLETE]
    return dict(sorted(found, key=lambda pair: (sign * pair[1].values[0], pair[0])))


def _print(
    order: Order,
    monitor: Monitor,
    trials: Mapping[int, FrozenTrial],
    best: Mapping[int, FrozenTrial],
    figures: Sequence[str],
) -> None:
    states = [status(trial) for trial in trials.values()]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print(f"\n{len(trials)} trials: {counts}. By validation {monitor.name} ({monitor.mode}):")
    files = ["trials.csv", *figures, *(["best.txt"] if best else [])]
    if not best:
        print(f"In {order.folder}: {', '.join(files)}")
        return
    first = next(iter(best.values()))
    print(printable_lines("\n".join(table(best, order, monitor))))
    print(printable_lines(f"\nBest run: {_from_here(str(first.user_attrs.get(RUN, '')))}"))
    print(f"In {order.folder}: {', '.join(files)}")
    print(printable_lines(f"\n{command(first, order)}"))


def _as_json(
    order: Order,
    monitor: Monitor,
    trials: Mapping[int, FrozenTrial],
    best: Mapping[int, FrozenTrial],
) -> dict[str, Any]:
    found = [
        {**row, "command": command(trial, order)}
        for row, trial in zip(rows(best, order), best.values(), strict=True)
    ]
    return {
        "study": order.name,
        "folder": str(order.folder),
        "metric": monitor.name,
        "mode": monitor.mode,
        "best": found[0] if found else None,
        "trials": rows(trials, order),
    }


def _figures(
    order: Order,
    study: Study,
    monitor: Monitor,
    trials: Mapping[int, FrozenTrial],
    folder: RunFolder,
) -> list[str]:
    """Draw what there is to draw; return the files' names."""
    values = {n: t.value for n, t in trials.items() if t.value is not None}
    finished = {n for n, t in trials.items() if t.state == TrialState.COMPLETE}
    drawn = {}
    if finished:
        drawn["history.png"] = draw_history(
            {number: value for number, value in values.items() if number in finished},
            {number: value for number, value in values.items() if number not in finished},
            monitor.name,
            monitor.mode == "max",
        )
    if len(finished) >= FEWEST and len(order.space) > 1:
        try:
            importance = get_param_importances(study)
        except (ValueError, RuntimeError):  # all values alike: nothing mattered
            importance = {}
        if importance:
            drawn["importance.png"] = draw_importance(importance, monitor.name)
    for name, figure in drawn.items():
        image = png(figure)
        folder.write(name, methodcaller("write", image))
    return list(drawn)


def _from_here(path: str) -> str:
    """``path`` as seen from here, where that is shorter."""
    return min(path, os.path.relpath(path), key=len) if path else path
