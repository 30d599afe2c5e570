"""A search: its checks before any trial, its processes, its end."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from optuna import Study

from dltrain import messages
from dltrain.assemble import Assembly
from dltrain.config import compose as composition
from dltrain.contracts.task import Monitor
from dltrain.data.kept import identity_of
from dltrain.engine import signals
from dltrain.errors import ConfigError, Fault
from dltrain.training import Run
from dltrain.tuning.report import report
from dltrain.tuning.reporting import ChoosesByValidation
from dltrain.tuning.study import Order, open_study
from dltrain.tuning.trials import replace_lost
from dltrain.tuning.worker import in_own_process, work

OTHER_EXAMPLES = ("data", "data.validation", "data.fold", "data.folds", "data.limit", "seed")
"""Keys that decide which examples a run is chosen by."""
OTHER_VALUES = ("trainer.monitor", "trainer.monitor_mode", "output_dir", "name", "device")
"""Keys that decide what is compared, or nothing that could be better."""


def search(order: Order) -> int:
    """Search; print what was found; return the exit code.

    Raises :class:`UserError` for what cannot be searched or compared, before any trial.
    """
    monitor, data = checked(order)
    study = open_study(order, monitor, data)
    replace_lost(study)
    code = _train(order, study, monitor)
    if code > 1:
        return code
    return max(code, report(order, study, monitor))


def checked(order: Order) -> tuple[Monitor, str]:
    """The metric that trials are compared by, and what tells their examples from others.

    Each end of a range and each choice is tried by itself, as far as that goes without training.
    Raises :class:`UserError` with what is wrong.
    """
    faults = [
        Fault(key, "decides which examples a run is chosen by, so runs could not be compared.")
        for key in OTHER_EXAMPLES if key in order.space
    ]  # fmt: skip
    faults += [
        Fault(key, "makes no run better; give it one value.")
        for key in OTHER_VALUES if key in order.space
    ]  # fmt: skip
    if faults:
        raise ConfigError(faults)
    first = {key: dimension.ends[0] for key, dimension in order.space.items()}
    config = composition.compose(order.overrides(first))
    variants = []
    for key, dimension in order.space.items():
        variants += [{**first, key: end} for end in dimension.ends[1:]]
    for values in variants:
        try:
            with Assembly(composition.compose(order.overrides(values))):
                pass
        except ConfigError as error:
            faults += [fault for fault in error.faults if fault not in faults]
    if faults:
        raise ConfigError(faults)
    with messages.shown() as shown, Assembly(config) as assembly:
        parts = assembly.read()
        watcher = ChoosesByValidation()
        monitor = Run(config, parts, shown, time.perf_counter(), [watcher]).parts.task.monitor
        identity = json.dumps(identity_of(parts.source), sort_keys=True)
    return monitor, hashlib.sha256(identity.encode()).hexdigest()


def _train(order: Order, study: Study, monitor: Monitor) -> int:
    """Train the trials, here or in processes of their own; return an exit code as they do."""
    if order.jobs == 1:
        return work(order, study, monitor)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=in_own_process, args=(order, monitor)) for _ in range(order.jobs)
    ]
    asked: list[int] = []

    def end(number: int) -> None:
        asked.append(number)
        for process in processes:
            process.terminate()

    with _threads_each(order.jobs), signals.withheld():
        for process in processes:
            process.start()
    try:
        with signals.asking(end):
            for process in processes:
                process.join()
    except KeyboardInterrupt:  # twice: at once
        for process in processes:
            process.kill()
        raise
    if asked:
        return signals.exit_code(asked[0])
    died = [process.exitcode for process in processes if (process.exitcode or 0) < 0]
    if died:
        names = ", ".join(signal.Signals(-code).name for code in died if code is not None)
        print(f"{len(died)} of {order.jobs} processes were ended by {names}.", file=sys.stderr)
    # What one of them had was done by the others, unless none was left.
    return max((process.exitcode or 0 for process in processes), default=0) if not died else 0


@contextmanager
def _threads_each(jobs: int) -> Iterator[None]:
    """While inside, new processes share the cores, unless the user has divided them."""
    name = "OMP_NUM_THREADS"
    if name in os.environ:
        yield
        return
    os.environ[name] = str(max(1, (os.cpu_count() or 1) // jobs))
    try:
        yield
    finally:
        del os.environ[name]
