"""What a search has found: a table, the best command line, figures, a file of all trials."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from operator import methodcaller
from typing import Any

from optuna import Study
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from dltrain.contracts.task import Monitor
from dltrain.errors import UserError
from dltrain.reports.canvas import png
from dltrain.reports.study import draw_history, draw_importance
from dltrain.runs.folder import RunFolder
from dltrain.tuning.reporting import RUN
from dltrain.tuning.study import Order
from dltrain.tuning.table import command, rows, status, table
from dltrain.tuning.trials import ERROR, counted, number_of

FEWEST = 8
"""Finished trials from which importance is told."""


def report(order: Order, study: Study, monitor: Monitor) -> int:
    """Print what the trials have reached, and write it; return the exit code.

    Raises :class:`UserError` where no trial has finished.
    """
    trials = counted(study)
    left = order.trials - sum(trial.state.is_finished() for trial in trials)
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best = sorted(
        finished, key=lambda t: (t.values[0] * (-1 if monitor.mode == "max" else 1), t.number)
    )
    folder = RunFolder(order.folder)
    order.folder.mkdir(parents=True, exist_ok=True)
    folder.write_table("trials", rows(trials, order))
    figures = _figures(order, study, monitor, trials, folder)
    if best:
        folder.write_text("best.txt", f"{command(best[0], order)}\n")
    if order.json:
        print(json.dumps(_as_json(order, monitor, trials, best), indent=2))
    else:
        _print(order, monitor, trials, best, figures)
    if left > 0:
        print(f"{left} of {order.trials} trials are left: type the same again.", file=sys.stderr)
        return 1
    if not best:
        errors = [t.user_attrs[ERROR] for t in trials if ERROR in t.user_attrs]
        first = f" The first: {errors[0]}" if errors else ""
        raise UserError(f"tune: no trial has finished.{first}")
    shutil.rmtree(order.folder / "locks", ignore_errors=True)
    return 0


def _print(
    order: Order,
    monitor: Monitor,
    trials: Sequence[FrozenTrial],
    best: Sequence[FrozenTrial],
    figures: Sequence[str],
) -> None:
    states = [status(trial) for trial in trials]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    print(f"\n{len(trials)} trials: {counts}. By validation {monitor.name} ({monitor.mode}):")
    if best:
        print("\n".join(table(best, order, monitor)))
        print(f"\nBest run: {_from_here(best[0].user_attrs.get(RUN, ''))}")
    files = ["trials.csv", *figures, *(["best.txt"] if best else [])]
    print(f"In {order.folder}: {', '.join(files)}")
    if best:
        print(f"\n{command(best[0], order)}")


def _as_json(
    order: Order, monitor: Monitor, trials: Sequence[FrozenTrial], best: Sequence[FrozenTrial]
) -> dict[str, Any]:
    found = rows(best[:1], order)
    return {
        "study": order.name,
        "folder": str(order.folder),
        "metric": monitor.name,
        "mode": monitor.mode,
        "best": {**found[0], "command": command(best[0], order)} if found else None,
        "trials": rows(trials, order),
    }


def _figures(
    order: Order, study: Study, monitor: Monitor, trials: Sequence[FrozenTrial], folder: RunFolder
) -> list[str]:
    """Draw what there is to draw; return the files' names."""
    values = {number_of(t): t.value for t in trials if t.value is not None}
    finished = {number_of(t) for t in trials if t.state == TrialState.COMPLETE}
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
