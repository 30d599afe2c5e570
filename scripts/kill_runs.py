"""Kill runs at random moments, resume them until they are done, and compare with undisturbed ones.

    python scripts/kill_runs.py                           # 100 kills
    python scripts/kill_runs.py --count 1000 --jobs 2     # the long proof; writes reliability.json
    python scripts/kill_runs.py --case 17 --seed 0        # one case again, told step by step

A case is a tiny run of one kind (scripts/tiny_runs.py). It is sent SIGKILL up to five times, at a
moment drawn over the time that it takes, or at one of its file operations; whenever there is a run
folder it goes on by ``dltrain resume``, else it is begun again. In the end its folder must have
every file of an undisturbed run and no other, with the same tensors, the same bytes of metrics.csv
and all other files, and the same summary but for the seconds. One case in ten is a process of its
own, ``python -m dltrain``; the rest are forks of one that has imported everything
(scripts/forks.py). Where a moment lies is told by the run itself, in a byte that both share.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import mmap
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forks
import tiny_runs
from reliability import write_result

MOMENTS = (
    "start-up",
    "folder",
    "begin",
    "step",
    "evaluation",
    "checkpoint",
    "figures",
    "end",
)
CHECKPOINT_SECONDS = (0, 0.03, 0.3, 30)
MOST_KILLS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Print failures and a last line; 1 where there was a failure, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=100, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", nargs="+", default=list(tiny_runs.RUNS), help="kinds of run")
    parser.add_argument("--real", type=int, default=10, help="one case of so many; 0: none")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--record", action="store_true", help="write scripts/reliability.json")
    asked = parser.parse_args(arguments)
    forks.prepare()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="kill-runs-") as folder:
        totals = kill(asked, Path(folder))
    seconds = time.perf_counter() - began
    print(totals.told(seconds))
    if asked.record:
        write_result("kill_runs", totals.recorded(asked.seed, seconds))
    return int(bool(totals.failures))


@dataclass
class Found:
    """What came of a case, or of all."""

    cases: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    aimed: int = 0
    real: int = 0
    again: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        """Count another one in."""
        self.cases += other.cases
        self.kills += other.kills
        self.aimed += other.aimed
        self.real += other.real
        self.again += other.again
        self.failures += other.failures

    def told(self, seconds: float) -> str:
        """The last line."""
        moments = ", ".join(f"{name} {self.kills[name]}" for name in MOMENTS)
        return (
            f"{self.kills.total()} kills of {self.cases} runs in {seconds:.0f} s ({moments}; "
            f"{self.aimed} at a file operation, {self.real} of processes of their own, "
            f"{self.again} before there was a run folder): {len(self.failures)} failures"
        )

    def recorded(self, seed: int, seconds: float) -> dict[str, Any]:
        """For ``reliability.json``."""
        return {
            "kills": self.kills.total(),
            "runs": self.cases,
            "moments": {name: self.kills[name] for name in MOMENTS},
            "at a file operation": self.aimed,
            "processes of their own": self.real,
            "before there was a run folder": self.again,
            "failures": len(self.failures),
            "seed": seed,
            "seconds": round(seconds),
        }


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody has killed: what it left, how long it took, in how many file operations."""

    contents: dict[str, Any]
    seconds: float
    operations: int


def kill(asked: argparse.Namespace, place: Path) -> Found:
    """Kill runs until there were as many kills as asked for."""
    forks.import_everything()
    with ProcessPoolExecutor(asked.jobs) as pool:  # forks: so all are there before any thread is
        made = place / "made"
        pool.submit(tiny_runs.make, made, asked.only).result()
        todo = itertools.count() if asked.case is None else iter([asked.case])
        totals, waiting = Found(), set[Future[Found]]()
        while True:
            while len(waiting) < asked.jobs and totals.kills.total() < asked.count:
                number = next(todo, None)
                if number is None:
                    break
                waiting.add(pool.submit(case, number, asked, made, place))
            if not waiting:
                return totals
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                totals.add(found := future.result())
                for line in found.failures:
                    print(line, flush=True)


def case(number: int, asked: argparse.Namespace, made: Path, place: Path) -> Found:
    """Kill one run until it is done or was killed often enough; compare what it left."""
    seed, only, told = asked.seed, asked.only, asked.case is not None
    draw = random.Random(f"{seed}/{number}")
    name = only[number % len(only)]
    # By the number of the round, so that each kind has its turn.
    real = bool(asked.real) and number // len(only) % asked.real == number % asked.real
    real = real and name not in tiny_runs.PHASED
    own = place / f"{number}"
    own.mkdir()
    seconds = draw.choice(CHECKPOINT_SECONDS)
    new = tiny_runs.words(name, made, own, f"trainer.checkpoint_seconds={seconds}")
    found, wanted, groups = Found(cases=1), draw.randint(1, MOST_KILLS), []
    again = f"python scripts/kill_runs.py --case {number} --seed {seed}"
    if asked.real != 10:
        again += f" --real {asked.real}"
    if only != list(tiny_runs.RUNS):
        again += f" --only {' '.join(only)}"

    def failed(what: str) -> Found:
        found.failures.append(f"{name}: {what}: {again}")
        return found

    try:
        expected = undisturbed(name, made, place, real)
        while True:
            folder = tiny_runs.run_folder(own / "outputs")
            if folder is not None and tiny_runs.status(folder) == "finished":
                break
            arguments = new if folder is None else ["resume", str(folder)]
            tiny_runs.a_day_later(own / "outputs")
            doomed = found.kills.total() < wanted
            aimed = doomed and not real and draw.random() < 0.5
            begun = folder is not None
            if not doomed:
                moment: float | None = None
            elif aimed:
                moment = draw.choice((0.0, 0.0, draw.uniform(0, 0.004)))
            else:
                moment = draw.uniform(0, expected.seconds * (0.7 if begun else 1.0))
            operation = draw.randint(1, expected.operations) if aimed else 0
            ended, where, group = attempt(name, arguments, own, real, moment, operation)
            groups.append(group)
            if told:
                print(f"{shlex.join(arguments)}\n  {moment} {operation}: {ended.code} {where}")
                print(ended.text)
            if ended.code == forks.KILLED:
                found.kills[where] += 1
                found.aimed += aimed
                found.real += real
                found.again += tiny_runs.run_folder(own / "outputs") is None
            elif ended.code:
                return failed(f"exit {ended.code} after {dict(found.kills)}: {ended.last_line}")
            else:
                break
        wrong = tiny_runs.told(tiny_runs.wrong(own, expected.contents, new))
        return failed(f"after {dict(found.kills)}: {wrong}") if wrong else found
    except Exception as error:
        return failed(f"after {dict(found.kills)}: {type(error).__name__}: {error}")
    finally:
        forks.end_group(groups)
        if not told:
            shutil.rmtree(own, ignore_errors=True)


@functools.cache
def undisturbed(name: str, made: Path, place: Path, real: bool) -> Undisturbed:
    """A run of that kind to its end; one of a process of its own must leave the same."""
    own = place / f"{name}-{os.getpid()}-{'real' if real else 'fork'}"
    own.mkdir()
    counted = mmap.mmap(-1, 8)
    words = own / "words.txt"
    if real:
        process = process_of(tiny_runs.words(name, made, own), own, words)
        ended = forks.wait(process, words)
    else:
        before = functools.partial(counting, own, counted)
        ended = forks.run(tiny_runs.words(name, made, own), own, prepared(name, before))
    if ended.code:
        raise RuntimeError(f"undisturbed, it ends with {ended.code}: {ended.text[-2000:]}")
    folder = tiny_runs.run_folder(own / "outputs")
    assert folder is not None
    found = tiny_runs.contents(folder)
    shutil.rmtree(own)
    if real:
        lines = tiny_runs.differences(undisturbed(name, made, place, False).contents, found)
        if lines:
            raise RuntimeError(f"undisturbed, a process of its own differs from a fork: {lines}")
    return Undisturbed(found, ended.seconds, int.from_bytes(counted[:8], "little"))


def attempt(
    name: str, arguments: list[str], own: Path, real: bool, moment: float | None, operation: int
) -> tuple[forks.Ended, str, int]:
    """Run a command and kill it; how it ended, where it was by then, its process group."""
    words = own / "words.txt"
    if real:
        process = process_of(arguments, own, words)
        ended = forks.wait(process, words, moment)
        return ended, by_its_folder(own), process
    shared = mmap.mmap(-1, 1)
    heard, tell = os.pipe()

    def before() -> None:
        mark_moments(shared)
        if operation:
            at_operation(own, operation, lambda: os.write(tell, b"!"))

    try:
        process = forks.start(arguments, own, words, prepared(name, before))
        ended = forks.wait(process, words, moment, heard if operation else None)
    finally:
        os.close(heard)
        os.close(tell)
    return ended, MOMENTS[shared[0]], process


def prepared(name: str, before: Callable[[], object]) -> Callable[[], object]:
    """``before``, and what a run of this kind needs of its process."""

    def prepare() -> None:
        if name in tiny_runs.PHASED:
            tiny_runs.alternate()
        before()

    return prepare


def process_of(arguments: list[str], own: Path, words: Path) -> int:
    """``python -m dltrain ARGUMENTS``, in a process group of its own; its number."""
    with words.open("wb") as out:
        command = [sys.executable, "-m", "dltrain", *arguments]
        return subprocess.Popen(
            command, cwd=own, stdin=subprocess.DEVNULL, stdout=out, stderr=out, process_group=0
        ).pid


def by_its_folder(own: Path) -> str:
    """Where a run was, as far as its folder tells: there is nobody else to ask."""
    folder = tiny_runs.run_folder(own / "outputs")
    if folder is None:
        return "start-up"
    if list(folder.glob("checkpoints/.*")):
        return "checkpoint"
    if not (folder / "metrics.csv").exists():
        return "folder"
    if list(folder.glob("figures/*")) or tiny_runs.status(folder) == "finished":
        return "figures"
    return "step"


def mark_moments(shared: mmap.mmap) -> None:
    """Have runs of this process tell in a byte what they are doing."""
    from dltrain.core.loop import Trainer
    from dltrain.runs import checkpoint
    from dltrain.runs.folder import RunFolder
    from dltrain.training import Run

    def mark(owner: Any, method: str, inside: str, after: str | None = None) -> None:
        function = getattr(owner, method)

        @functools.wraps(function)
        def marked(*args: Any, **kwargs: Any) -> Any:
            before, shared[0] = shared[0], MOMENTS.index(inside)
            try:
                return function(*args, **kwargs)
            finally:
                shared[0] = before if after is None else MOMENTS.index(after)

        setattr(owner, method, marked)

    mark(RunFolder, "create", "folder", "folder")
    mark(Run, "describe", "folder", "begin")
    mark(Run, "go", "begin", "end")
    mark(Trainer, "_train", "step")
    mark(Trainer, "_end_period", "evaluation")
    mark(Trainer, "_test", "evaluation")
    mark(Trainer, "end", "figures", "end")
    mark(checkpoint, "save", "checkpoint")


def operations(own: Path, heard: Callable[[], object]) -> None:
    """Call ``heard`` before each operation of this process that changes a file of the run."""
    inside = f"{own / 'outputs'}{os.sep}"
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if not (isinstance(args[2], int) and args[2] & changing):
                return
        elif event not in ("os.rename", "os.remove", "os.mkdir", "os.truncate", "os.chmod"):
            return
        if isinstance(args[0], str | bytes | os.PathLike):
            path = os.path.abspath(os.fsdecode(args[0]))  # noqa: PTH100 - resolves no link
            if path.startswith(inside):
                heard()

    sys.addaudithook(hook)


def counting(own: Path, counted: mmap.mmap) -> None:
    """Write into ``counted`` how many such operations there were."""
    numbers = itertools.count(1)

    def heard() -> None:
        counted[:8] = next(numbers).to_bytes(8, "little")

    operations(own, heard)


def at_operation(own: Path, wanted: int, act: Callable[[], object]) -> None:
    """Call ``act`` before the operation number ``wanted``."""
    numbers = itertools.count(1)

    def heard() -> None:
        if next(numbers) == wanted:
            act()

    operations(own, heard)


if __name__ == "__main__":
    sys.exit(main())
