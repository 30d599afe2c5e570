"""Several runs together: what is to be trained, how far it is, and what came of it.

A sweep's folder ``output_dir/sweeps/<time>`` has from the beginning ``sweep.json``: what was typed,
where, and the overrides of each run. ``jobs.jsonl`` is appended to: a line when a run has its
folder, and one when it has ended. So it is known what a kill has left, and can be gone on with.
``results.csv`` is made of them, whole each time: a run is there once, however often it was resumed.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from dltrain.errors import UserError, going_on, printable, shortened
from dltrain.files import open_within, own
from dltrain.runs.finding import LISTED
from dltrain.runs.folder import (
    CONFIG,
    RUNNING,
    RunFolder,
    is_held,
    remove_unpublished,
    renamed_exclusively,
    shortest,
    unpublished,
)
from dltrain.runs.listing import Unreadable, read_text

SWEEPS, SWEEP, JOBS, RESULTS = "sweeps", "sweep.json", "jobs.jsonl", "results.csv"
JOB = "job.json"
"""The file of a run's folder that says which run of which sweep it is."""
WRITING, ENDING = ".writing", ".ending"
LARGEST = 1 << 26
"""Bytes of a file of a sweep that is read; a run takes a few hundred."""
WAITING, FINISHED, DIVERGED = "waiting", "finished", "diverged"


@dataclass
class SweepJob:
    """One run of a sweep, as far as it is."""

    overrides: list[str]
    status: str = WAITING
    """Of the run, or :data:`WAITING`; ``running``: it was when it was last heard of."""
    run: str | None = None
    """Its folder: relative to that of all runs, or absolute where it lies elsewhere."""
    code: int | None = None
    """The exit code of its last end."""
    scores: list[tuple[str, str, Any]] = field(default_factory=list)
    """Split, metric, value of one that has finished."""

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to do: it has finished, or would diverge again."""
        return self.status in (FINISHED, DIVERGED)


class Sweep:
    """The folder of several runs. Several processes may write into it at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = RunFolder(path)

    def __reduce__(self) -> tuple[type[Sweep], tuple[Path]]:
        """A launcher hands it to other processes, which do not hold it."""
        return Sweep, (self.path,)

    @classmethod
    def create(cls, output_dir: Path, **told: Any) -> Sweep:
        """Make a folder ``output_dir/sweeps/<time>`` that no other sweep has, and hold it.

        ``told`` is kept in ``sweep.json``: ``arguments``, ``folder`` in which they were typed,
        ``config_dir``, ``launcher``, ``sweeper``; ``jobs``, the overrides of each run, or None
        where they are not known before. Raises :class:`UserError` where that is impossible.
        """
        parent = output_dir.expanduser() / SWEEPS
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_unpublished(parent)
            path = unpublished(parent)
            RunFolder(path).write_json(SWEEP, told)
            sweep = cls(renamed_exclusively(path, time.strftime("%Y-%m-%d_%H-%M-%S")))
        except OSError as error:
            raise UserError(
                f"output_dir: cannot create a sweep in {parent}: {error.strerror}."
            ) from error
        sweep.hold()
        return sweep

    def hold(self) -> None:
        """Claim it for this process; raises :class:`UserError` where another one trains it."""
        own(self.path, ENDING)
        self._folder.hold()
        (self.path / ENDING).unlink(missing_ok=True)

    def release(self) -> None:
        """Let others claim it."""
        self._folder.release()

    @property
    def is_held(self) -> bool:
        """Whether a process trains it."""
        return is_held(self.path)

    @property
    def output_dir(self) -> Path:
        """Where its runs lie."""
        return self.path.parent.parent

    def told(self) -> dict[str, Any]:
        """What ``sweep.json`` says. Raises :class:`UserError` where it cannot be read."""
        try:
            content = json.loads(read_text(self.path, SWEEP, LARGEST))
        except (Unreadable, ValueError, RecursionError) as error:
            raise UserError(f"{self.path / SWEEP} cannot be read: {error}.") from error
        if not isinstance(content, dict) or not isinstance(content.get("arguments"), list):
            raise UserError(f"{self.path / SWEEP} cannot be read: it is not that of a sweep.")
        return content

    def jobs(self) -> dict[int, SweepJob]:
        """All its runs by number, from 1 on. Raises :class:`UserError` where a file is damaged."""
        planned = self.told().get("jobs") or []
        try:
            jobs = {number: SweepJob(_texts(job)) for number, job in enumerate(planned, 1)}
            for event in self._events():
                _apply(event, jobs)
        except (TypeError, ValueError, KeyError) as error:
            raise UserError(f"{self.path} cannot be read as a sweep: {error}.") from error
        return dict(sorted(jobs.items()))

    def run_of(self, number: int) -> Path | None:
        """The folder of a run that has begun; None where there is none (any more).

        Raises :class:`UserError` for one that does not lie where the sweep's runs do.
        """
        job = self.jobs()[number]
        if job.run is None:
            return None if job.status == WAITING else self._unnoted(number)
        path = self.output_dir / job.run
        try:
            whole, is_run = path.resolve(), (path / CONFIG).is_file()
        except (OSError, ValueError) as error:  # no system has such a path
            problem = f"run {number} lies in no folder: {shortened(printable(str(error)))}."
            raise UserError(f"{self.path / JOBS}: {problem}") from error
        if not whole.is_relative_to(self.output_dir.resolve()):
            raise UserError(
                f"{self.path}: its run {job.run} does not lie in {self.output_dir}. "
                f"{going_on(Path(job.run))}, by itself."
            )
        return path if is_run else None

    def place_of(self, number: int) -> dict[str, Any]:
        """What a run's folder keeps of this, in its ``job.json``."""
        return {"sweep": self.path.name, "job": number}

    def _unnoted(self, number: int) -> Path | None:
        """The newest run that says it is the one, of a process that was killed before it could."""
        for file in sorted(self.output_dir.glob(f"*/*/{JOB}"), reverse=True):
            with contextlib.suppress(Unreadable, ValueError, RecursionError):
                if json.loads(read_text(file.parent, JOB)) == self.place_of(number):
                    return file.parent
        return None

    def ask_to_end(self) -> None:
        """Have no run begin any more, in whichever process."""
        with contextlib.suppress(OSError):
            (self.path / ENDING).touch()

    @property
    def is_ending(self) -> bool:
        """Whether no run is to begin any more."""
        return os.path.lexists(self.path / ENDING)

    def begin(self, number: int, overrides: Sequence[str]) -> None:
        """Note that a run begins, which may not have been planned."""
        self._note({"job": number, "overrides": list(overrides), "status": RUNNING})

    def made(self, number: int, run: Path) -> None:
        """Note which folder the run has."""
        whole, ours = run.resolve(), self.output_dir.resolve()
        known = whole.relative_to(ours) if whole.is_relative_to(ours) else whole
        self._note({"job": number, "run": known.as_posix()})

    def end(
        self,
        number: int,
        summary: Mapping[str, Any] | None,
        code: int,
        failure: str = "failed",
    ) -> None:
        """Note what came of a run, with its exit code, and write ``results.csv``.

        A run that failed, diverged or was interrupted has no scores: half a training is no result.
        ``failure`` is the status of one that has no summary.
        """
        status = str(summary["status"]) if summary else failure
        scores = [
            (split, metric, _as_json(value))
            for split in ("validation", "test")
            for metric, value in (summary[split] if summary and status == FINISHED else {}).items()
        ]
        self._note({"job": number, "status": status, "code": code, "scores": scores})

    def codes(self) -> list[int]:
        """The exit codes of the runs that have ended."""
        return [job.code for job in self.jobs().values() if job.code is not None]

    def write_results(self) -> None:
        """Write ``results.csv`` (overrides, status, split, metric, value) of what has ended."""
        with self._writing():
            self._write_results()

    def _note(self, event: Mapping[str, Any]) -> None:
        line = f"{json.dumps(event, allow_nan=False)}\n".encode()
        with self._writing():
            with open_within(self.path, JOBS, "a+b") as file:
                size = file.seek(0, os.SEEK_END)
                if size:
                    file.seek(size - 1)
                    if file.read(1) != b"\n":  # a kill or a full disk has cut the last line
                        line = b"\n" + line
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            if "code" in event:
                self._write_results()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Alone among all processes. What the disk refuses is a :class:`UserError`."""
        if not self.path.is_dir():  # the lock would make the folder anew
            raise UserError(f"{self.path} is gone: somebody removed or moved it.")
        try:
            with FileLock(self.path / WRITING):
                yield
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written to: {error.strerror}. {going_on(self.path)}"
            ) from error

    def _events(self) -> Iterator[Mapping[str, Any]]:
        """What was noted; without a line that was cut."""
        if not (self.path / JOBS).exists():
            return
        try:
            text = read_text(self.path, JOBS, LARGEST)
        except Unreadable as error:
            raise UserError(f"{self.path / JOBS} cannot be read: {error}.") from error
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict):
                yield event

    def _write_results(self) -> None:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("overrides", "status", "split", "metric", "value"))
        for job in self.jobs().values():
            if job.code is not None:
                for row in job.scores or [("", "", "")]:
                    writer.writerow((" ".join(job.overrides), job.status, *row))
        self._folder.write_text(RESULTS, text.getvalue())


def _apply(event: Mapping[str, Any], jobs: dict[int, SweepJob]) -> None:
    number = int(event["job"])
    job = jobs.setdefault(number, SweepJob([]))
    if "overrides" in event:
        job.overrides = _texts(event["overrides"])
    if "run" in event:
        job.run = str(event["run"])
    if "status" in event:
        job.status = str(event["status"])
    if "code" in event:
        job.code = int(event["code"])
        job.scores = [(str(split), str(name), value) for split, name, value in event["scores"]]


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} are not the overrides of a run")
    return [str(one) for one in value]


def _as_json(value: Any) -> Any:
    """JSON knows finite numbers alone; any other is a word."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def find(word: str, output_dir: Path) -> Sweep | None:
    """The sweep that ``word`` means: its path, or a part of ``sweeps/<time>`` in ``output_dir``.

    None where it means none. Raises :class:`UserError` where it is a part of several, and for one
    of an earlier version, which kept no list of its runs.
    """
    path = Path(word).expanduser()
    if (path / SWEEP).is_file():
        return Sweep(path)
    if path.is_dir():
        if path.parent.name == SWEEPS and (path / RESULTS).is_file():
            raise UserError(
                f"{path} is a sweep of an earlier version of dltrain, without {SWEEP}: resume its "
                "runs one by one."
            )
        return None
    if not word or path.is_absolute():
        return None
    folders = [sweep.path for sweep in sweeps_below(output_dir)]
    exact = [f for f in folders if word in (f.name, f"{SWEEPS}/{f.name}")]
    found = exact or [f for f in folders if word in f"{SWEEPS}/{f.name}"]
    if len(found) > 1:
        lines = "".join(f"\n  {folder}" for folder in found[:LISTED])
        raise UserError(f"{word} is a part of {len(found)} sweeps. Which one?{lines}")
    return Sweep(found[0]) if found else None


def sweeps_below(output_dir: Path) -> list[Sweep]:
    """The sweeps in ``output_dir``, the newest first."""
    folders = (file.parent for file in output_dir.glob(f"{SWEEPS}/*/{SWEEP}"))
    return [Sweep(path) for path in sorted(folders, reverse=True)]


def left_of(sweep: Sweep) -> str:
    """How many of its runs are left, in words; empty where none is, or it cannot be read."""
    try:
        jobs = sweep.jobs().values()
    except UserError:
        return ""
    left = sum(not job.is_done for job in jobs)
    if not left:
        return ""
    if sweep.is_held:
        return f"{left} of {len(jobs)} runs to go"
    return f"{left} of {len(jobs)} runs are left. {going_on(sweep.path)}"


def with_run(run: Path) -> tuple[Sweep, int] | None:
    """The sweep that a run belongs to, and its number there; None where it belongs to none."""
    output_dir = run.resolve().parent.parent
    name = run.resolve().relative_to(output_dir).as_posix()
    for sweep in sweeps_below(shortest(output_dir)):
        try:
            jobs = sweep.jobs()
        except UserError:
            continue  # what cannot be read claims no run
        for number, job in jobs.items():
            if job.run == name:
                return sweep, number
    return None
