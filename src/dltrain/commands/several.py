"""Several runs of one command line: ``dltrain -m key=a,b``, and going on with them after a kill."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dltrain.config.quoting import in_grammar
from dltrain.config.working_folder import importable
from dltrain.engine import runtime, signals, terminal
from dltrain.engine.signals import exit_code
from dltrain.errors import (
    FULL,
    Diverged,
    Interrupted,
    UserError,
    as_refused,
    going_on,
    printable_lines,
)
from dltrain.mistakes import complain
from dltrain.runs.folder import INTERRUPTED, RunFolder, is_held
from dltrain.runs.sweep import DIVERGED, FINISHED, Sweep, SweepJob

if TYPE_CHECKING:
    from dltrain.config.compose import Job

LAUNCHER = "hydra/launcher=", "hydra.launcher."
Work = Callable[[], Mapping[str, Any]]
"""Trains a run, or goes on with one; returns its summary."""


class Done(NamedTuple):
    """What came of one run of several."""

    code: int
    summary: Mapping[str, Any] | None = None
    failure: str = "failed"
    """The status of one without a summary."""


def train_several(arguments: Sequence[str], overrides: Sequence[str], output_dir: Path) -> int:
    """Train a run for each combination of ``overrides``; return the first exit code that is not 0.

    Raises :class:`UserError` where the sweep's folder cannot be written, and :class:`Interrupted`.
    """
    from dltrain.config import compose as composition

    plan, own = composition.planned(overrides), composition.UserFolder.path
    config_dir = None if own is None else str(own)
    sweep = Sweep.create(
        output_dir,
        arguments=list(arguments),
        folder=str(Path.cwd()),
        config_dir=config_dir,
        sweeper=plan.sweeper,
        launcher=plan.launcher,
        dltrain=version("dltrain"),
        jobs=plan.jobs,
    )
    here, process = Path.cwd(), os.getpid()

    def work(job: Job) -> float | None:
        """One run; a launcher such as joblib's calls this in processes of its own."""

        def train(created: Callable[[Path], object]) -> Mapping[str, Any]:
            from dltrain.training import train as train_run

            place = sweep.place_of(job.number)
            return train_run(job.config, job.overrides, created=created, job=place)

        with in_worker(process, sweep), importable(here), composition.folder_used(config_dir):
            done = one_of_several(sweep, job.number, job.overrides, train, process)
        if done.summary is None:
            return None
        from dltrain.runs.monitor import monitored

        value = monitored(done.summary)
        if value is None and job.needs_value:
            raise _without_value(done.summary)
        return value

    typed = [*arguments, f"hydra.sweep.dir={in_grammar(str(sweep.path))}"]
    with trained(sweep, plan.in_this_process):
        composition.launch(typed, work)
    return next((code for code in sweep.codes() if code), 0)


def go_on(sweep: Sweep, typed: Sequence[str] = (), changed_data: bool = False) -> int:
    """Train what is missing of ``sweep``; return the first exit code of all its runs that is not 0.

    Finished runs are left, interrupted ones resumed, others begun; those that have failed are tried
    again. ``typed`` may name a launcher of Hydra's. Raises :class:`UserError` where nothing is
    missing, or something still runs.
    """
    if not all(word.startswith(LAUNCHER) for word in typed):
        word = next(word for word in typed if not word.startswith(LAUNCHER))
        raise UserError(
            f"resume: {word}: a sweep keeps its own keys; only hydra/launcher=… can be given."
        )
    sweep.hold()
    try:
        missing = _missing(sweep)
    except BaseException:
        sweep.release()
        raise
    print(f"{sweep.path}: {len(missing)} of {len(sweep.jobs())} runs are left.", flush=True)
    config_dir, process = sweep.told().get("config_dir"), os.getpid()

    def work(number: int) -> None:
        from dltrain.config import compose as composition

        def train(created: Callable[[Path], object]) -> Mapping[str, Any]:
            return _trained(sweep, number, changed_data, created)

        with in_worker(process, sweep), composition.folder_used(config_dir):
            one_of_several(sweep, number, missing[number].overrides, train, process)

    with trained(sweep, in_this_process=not typed):
        if typed:
            _launch(sweep, missing, typed, work)
        else:
            for number in missing:
                work(number)
    return next((code for code in sweep.codes() if code), 0)


def _missing(sweep: Sweep) -> dict[int, SweepJob]:
    """The runs to be trained. Raises :class:`UserError` where there are none, or it cannot be."""
    told = sweep.told()
    sweep.write_results()  # a kill may have come before it
    jobs = sweep.jobs()
    missing = {number: job for number, job in jobs.items() if not job.is_done}
    drawn = (
        ""
        if told.get("jobs") is not None
        else (
            f" Its runs are drawn by {told.get('sweeper')}, which cannot go on; dltrain tune can."
        )
    )
    if not missing:
        raise UserError(f"{sweep.path} is finished: there is nothing to resume.{drawn}")
    runs = {number: sweep.run_of(number) for number in missing}
    running = [run for run in runs.values() if run is not None and is_held(run)]
    if running:
        raise UserError(f"{sweep.path}: its run {running[0]} is still running in another process.")
    folder = Path(str(told.get("folder")))
    anew = any(run is None for run in runs.values())
    if anew and folder != Path.cwd() and folder.is_dir():
        command = shlex.join(["dltrain", "resume", str(sweep.path.resolve())])
        raise UserError(
            f"{sweep.path} was typed in another folder, where its relative paths lead: "
            f"cd {shlex.quote(str(folder))} && {command}"
        )
    return missing


def _trained(
    sweep: Sweep, number: int, changed_data: bool, created: Callable[[Path], object]
) -> Mapping[str, Any]:
    """Go on with a run of ``sweep`` where it has begun, else train it; return its summary."""
    from dltrain import training
    from dltrain.config import compose as composition

    run = sweep.run_of(number)
    if run is not None:
        created(run)
        folder = RunFolder(run)
        folder.hold()  # which also removes what a kill has left half written
        summary = folder.summary()
        folder.release()
        if summary.get("status") == FINISHED:  # but for its word to the sweep
            return summary | {"signal": None}
        return training.resume(str(run), sweep.output_dir, changed_data)
    overrides = sweep.jobs()[number].overrides
    config = composition.compose(overrides) | {"output_dir": str(sweep.output_dir)}
    place = sweep.place_of(number)
    return training.train(config, overrides, created=created, typed=False, job=place)


def _launch(
    sweep: Sweep, missing: Mapping[int, SweepJob], typed: Sequence[str], work: Callable[[int], None]
) -> None:
    """Have the launcher that the user has typed now call ``work`` for each number."""
    from dltrain.config import compose as composition

    def launched(job: Job) -> None:
        work(int(job.overrides[-1].partition("=")[2]))

    # Hydra writes it anew, and through a link if it is one.
    (sweep.path / "multirun.yaml").unlink(missing_ok=True)
    numbers = ",".join(map(str, missing))
    folder = f"hydra.sweep.dir={in_grammar(str(sweep.path))}"
    composition.launch(["-m", *typed, folder, f"+job={numbers}"], launched)


@contextmanager
def trained(sweep: Sweep, in_this_process: bool) -> Iterator[None]:
    """While inside, ``sweep`` is trained; in the end its table is shown, whatever came of it.

    Raises :class:`Interrupted` after a signal. Runs in other processes are asked to save and end.
    """
    asked: list[int] = []

    def end(number: int) -> None:
        if not asked:
            print("The runs save and end; a second Ctrl-C does not wait.", file=sys.stderr)
        asked.append(number)
        sweep.ask_to_end()
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGTERM)

    try:
        with (
            signals.unfinished(going_on(sweep.path)),
            nullcontext() if in_this_process else signals.asking(end),
        ):
            yield
        if asked:
            raise signals.Ended(asked[0])
    except KeyboardInterrupt as error:
        number = signals.number_of(error)
        raise Interrupted(sweep.path, number, signals.said(number)) from error
    except OSError as error:  # of Hydra's own file
        if error.errno not in FULL:
            raise
        raise UserError(f"{sweep.path}: {error.strerror}. {going_on(sweep.path)}") from error
    except Exception as error:
        if not asked:
            raise
        # A launcher does not like its processes to end.
        raise Interrupted(sweep.path, asked[0], signals.said(asked[0])) from error
    finally:
        sweep.release()
        if sweep.path.is_dir():
            from dltrain.runs.sweep_report import report

            report(sweep)


@contextmanager
def in_worker(process: int, sweep: Sweep) -> Iterator[None]:
    """While inside, a process that is not ``process`` is as that of a command."""
    if os.getpid() == process:
        yield
        return
    terminal.make_writable()
    with signals.raised(), signals.unfinished(going_on(sweep.path)):
        yield


def one_of_several(
    sweep: Sweep,
    number: int,
    overrides: Sequence[str],
    train: Callable[[Callable[[Path], object]], Mapping[str, Any]],
    process: int,
) -> Done:
    """Train one run of several by ``train``, whatever it raises, and note what came of it.

    ``train`` is given what is to be called with the run's folder, once there is one. ``process``
    is that of the command: there, raises :class:`~dltrain.engine.signals.Ended` after a signal.
    """
    if sweep.is_ending:
        return Done(0)
    sweep.begin(number, overrides)
    runtime.collect_again()
    print(printable_lines(f"\n[{number}] {shlex.join(overrides)}"), flush=True)
    done = _done(lambda: train(lambda path: sweep.made(number, path)), overrides)
    sweep.end(number, done.summary, done.code, done.failure)
    if done.code > 128 and os.getpid() == process:
        raise signals.Ended(done.code - 128)
    return done


def _done(work: Work, overrides: Sequence[str]) -> Done:
    try:
        summary = work()
        return Done(exit_code(summary["signal"]), summary)
    except UserError as error:
        complain(error, overrides)
        return Done(2, failure=DIVERGED if isinstance(error, Diverged) else "failed")
    except KeyboardInterrupt as error:
        return Done(exit_code(signals.number_of(error)), failure=INTERRUPTED)
    except Exception as error:
        refused = as_refused(error) if isinstance(error, OSError) else None
        if refused is not None:
            complain(refused, overrides)
            return Done(2, failure="failed")
        # One bug does not take the other runs with it; its traceback is shown at once.
        traceback.print_exc()
        return Done(1)


def _without_value(summary: Mapping[str, Any]) -> UserError:
    """Why a run has nothing for a sweeper to choose by."""
    why = (
        f"the run's {summary['monitor']} is no number"
        if summary["validation"]
        else "there is no validation split to choose by; set data.validation above 0"
    )
    return UserError(f"hydra/sweeper: {why}.")
