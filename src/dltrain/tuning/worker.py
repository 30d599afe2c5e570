"""One process of a study: trains trials until all have ended."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import MedianPruner, NopPruner
from optuna.trial import Trial, TrialState

from dltrain import training
from dltrain.config import compose as composition
from dltrain.config.working_folder import importable
from dltrain.contracts.task import Monitor
from dltrain.engine import runtime, signals, terminal
from dltrain.engine.signals import exit_code
from dltrain.errors import Diverged, UserError, printable_lines
from dltrain.runs.folder import CONFIG, RunFolder
from dltrain.runs.monitor import monitored
from dltrain.runs.newest import newest_run
from dltrain.tuning.alive import Holder, beating
from dltrain.tuning.reporting import PRUNED, RUN, Reporting
from dltrain.tuning.study import Order, distributions, open_storage
from dltrain.tuning.table import SECONDS, line
from dltrain.tuning.trials import ERROR, GIVEN_BACK, Queue, counted

NOTE = "note"
"""The attribute of a trial that says what was unusual."""


def in_own_process(order: Order, monitor: Monitor) -> None:
    """What a process of ``--jobs`` runs; ends with an exit code, and when its parent has ended."""
    os.setpgid(0, 0)
    signals.heard(but=signal.SIGINT)  # that is the parent's, who asks for an orderly end
    terminal.make_writable()
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_with_parent, daemon=True).start()
    composition.use_folder(order.config_dir)
    try:
        with signals.raised(), importable(Path.cwd()):
            study = optuna.load_study(study_name=order.name, storage=open_storage(order))
            code = work(order, study, monitor)
    except UserError as error:
        print(printable_lines(f"dltrain: {error}"), file=sys.stderr)
        code = 2
    except KeyboardInterrupt as error:
        code = exit_code(signals.number_of(error))
    sys.exit(code)


def work(order: Order, study: Study, monitor: Monitor) -> int:
    """Train trials until all have ended; return an exit code.

    0: they have, whatever came of them. 1: a bug, whose traceback was shown. Else: interrupted.
    """
    study.pruner = MedianPruner() if order.prune else NopPruner()
    holder = Holder(order.folder)
    queue = Queue(study, distributions(order.space), order.trials, order.seed, holder)
    code, done = 0, False
    try:
        while (trial := queue.next()) is not None:
            ended = _Trial(order, study, monitor, trial).train()
            if ended > 1:
                return ended
            code = max(code, ended)
        done = True
    finally:
        holder.release(done)
    return code


class _Trial:
    """One trial: its run, and what is told of it."""

    def __init__(self, order: Order, study: Study, monitor: Monitor, trial: Trial) -> None:
        self._order, self._study, self._monitor, self._trial = order, study, monitor, trial
        order.require_asked(trial.params)
        self._overrides = order.overrides(trial.params)

    def train(self) -> int:
        """Train it to its end and say so; return an exit code, 0 whatever came of it."""
        runtime.collect_again()
        started = time.perf_counter()
        error, code = "", 0
        summary: Mapping[str, Any] = {}
        try:
            with beating(self._study, self._trial), _quiet():
                summary = self._summary()
        except Diverged:
            error = "diverged"
        except UserError as mistake:
            error = str(mistake)
        except Exception as bug:
            # One bug does not take the other trials with it; its traceback is shown at once.
            traceback.print_exc()
            error, code = f"{type(bug).__name__}: {bug}", 1
        if summary.get("status") == "interrupted":
            self._trial.set_user_attr(GIVEN_BACK, True)
            return exit_code(summary.get("signal")) or 1
        # Of a run that was gone on with, those before it too.
        took = summary.get("seconds", {}).get("total", time.perf_counter() - started)
        self._trial.set_user_attr(SECONDS, round(took, 2))
        try:
            self._tell(summary, error)
        except (UpdateFinishedTrialError, ValueError):
            self._say("A trial is another process's by now, which took this one for dead.")
            return code
        for number, trial in enumerate(counted(self._study)):
            if trial.number == self._trial.number:
                self._say(line(number, trial, self._order, self._monitor))
        return code

    def _say(self, text: str) -> None:
        print(
            printable_lines(text), file=sys.stderr if self._order.json else sys.stdout, flush=True
        )

    def _summary(self) -> Mapping[str, Any]:
        """Go on with its run where there is one, else train a new one; return the summary."""
        watcher = Reporting(self._trial, self._order.prune)
        before = Path(self._trial.user_attrs.get(RUN, ""))
        inside = before.resolve().is_relative_to(self._order.folder.resolve())
        if inside and (before / CONFIG).is_file():
            summary = RunFolder(before).summary()
            if summary.get("status") == "finished":  # all but its last word
                return summary
            try:
                return training.resume(str(before), self._order.folder, watchers=[watcher])
            except Diverged:
                raise
            except UserError as error:
                self._trial.set_user_attr(NOTE, f"trained anew, for it could not go on: {error}")
        config = composition.compose(self._overrides)
        if config["init_from"] is not None and not Path(config["init_from"]).expanduser().is_file():
            known = newest_run(config["init_from"], self._order.output_dir)
            config["init_from"] = str(known.path.resolve())
        config["output_dir"] = str(self._order.folder)
        return training.train(config, self._overrides, [watcher])

    def _tell(self, summary: Mapping[str, Any], error: str) -> None:
        value = monitored(summary) if summary else None
        if error == "" and value is None:
            error = f"its {self._monitor.name} is no number"
        if error == "" and summary["monitor"] != self._monitor.name:
            other = summary["monitor"]
            error = f"it is monitored by {other}, not by {self._monitor.name}"
        if error:
            self._trial.set_user_attr(ERROR, error)
        if error == "diverged":
            # Worse than all others, which a trial that merely failed would not be.
            self._study.tell(self._trial, state=TrialState.PRUNED)
        elif error:
            self._study.tell(self._trial, state=TrialState.FAIL)
        elif PRUNED in self._trial.user_attrs:
            self._study.tell(self._trial, state=TrialState.PRUNED)
        else:
            assert value is not None and math.isfinite(value)
            self._study.tell(self._trial, value)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What a run says is in its train.log; of many at once, nobody could read it."""
    with (
        Path(os.devnull).open("w", encoding="utf-8") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
