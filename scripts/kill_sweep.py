"""Kill sweeps at random moments, go on with them until they are done, and compare.

    python scripts/kill_sweep.py                      # 30 kills
    python scripts/kill_sweep.py --count 500 --record # the long proof; writes reliability.json
    python scripts/kill_sweep.py --case 7 --seed 0    # one sweep again

A sweep (``-m``) of six runs, two of which are refused and two of which diverge, is sent SIGKILL at
a moment drawn over the time that it takes, or at one of its file operations, up to five times. It
goes on by ``dltrain resume`` of its folder, or now and then of its newest run; where there is no
folder yet, it is typed again. In the end ``results.csv`` must have the rows of an undisturbed
sweep, byte for byte, there must be no other runs than the sweep's, and nothing half written.
Processes are forks of one that has imported everything (scripts/forks.py).
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import forks
from reliability import write_result

SWEEP = (
    "-m model=logreg data=iris device=cpu callbacks=none trainer.epochs=4 name=run seed=1,2 "
    "trainer.checkpoint_seconds={clock} optimizer=sgd optimizer.lr=0.1,-1,3e38"
)
"""Of six runs two are refused, and two diverge: after a kill they are what they were."""
RUNS = 4
MOST_KILLS = 5
OPERATIONS = ("os.open", "os.rename", "os.mkdir", "open", "os.remove", "os.rmdir", "os.truncate")


class Found(NamedTuple):
    """What came of one sweep."""

    kills: int
    alone: int
    """Resumes of one of its runs by itself."""
    problems: list[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=30, help="kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--record", action="store_true", help="write scripts/reliability.json")
    asked = parser.parse_args()
    forks.prepare()
    began = time.perf_counter()
    forks.import_everything()
    kills = cases = alone = 0
    failures: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="kill-sweep-") as folder,
        ProcessPoolExecutor(asked.jobs) as pool,
    ):
        expected, seconds, operations = pool.submit(undisturbed, Path(folder)).result()
        numbers = itertools.count() if asked.case is None else iter([asked.case])
        while kills < asked.count:
            several = list(itertools.islice(numbers, asked.jobs))
            if not several:
                break
            work = [
                pool.submit(killed, n, asked.seed, Path(folder), expected, seconds, operations)
                for n in several
            ]
            for number, one in zip(several, work, strict=True):
                found = one.result()
                kills, cases, alone = kills + found.kills, cases + 1, alone + found.alone
                again = f"python scripts/kill_sweep.py --case {number} --seed {asked.seed}"
                failures += [f"{again}: {problem}" for problem in found.problems]
    for line in failures:
        print(line)
    total = time.perf_counter() - began
    print(
        f"{kills} kills of {cases} sweeps in {total:.0f} s ({alone} went on by a run of theirs): "
        f"{len(failures)} failures"
    )
    if asked.record:
        write_result(
            "kill_sweep",
            {"kills": kills, "sweeps": cases, "by a run": alone, "failures": len(failures),
             "seed": asked.seed, "seconds": round(total)},
        )  # fmt: skip
    sys.exit(bool(failures))


def words(clock: float) -> list[str]:
    """What is typed."""
    return SWEEP.format(clock=clock).split()


def undisturbed(place: Path) -> tuple[str, float, int]:
    """Of a sweep that nobody has killed: its results, its seconds, its file operations."""
    own, counts = place / "undisturbed", place / "operations"
    own.mkdir()
    made: list[int] = []
    done = forks.run(
        words(0.05),
        own,
        before=lambda: count(lambda number: made.append(number)),
        after=lambda: counts.write_text(str(len(made))),
    )
    assert done.code == 2, done.text[-2000:]
    return results(own), done.seconds, int(counts.read_text())


def killed(
    case: int, seed: int, place: Path, expected: str, seconds: float, operations: int
) -> Found:
    """A sweep that is killed now and then, until it is done."""
    chance = random.Random(f"{seed} {case}")
    own = place / f"case-{case}"
    own.mkdir()
    clock = chance.choice((0, 0.05, 30))
    kills = alone = 0
    most = chance.randint(1, MOST_KILLS)
    groups: list[int] = []
    for attempt in itertools.count():
        arguments, by_run = next_call(own, clock, chance)
        alone += by_run
        last = kills >= most
        at = None if last or chance.random() < 0.5 else chance.randrange(operations)
        after = None if last or at is not None else chance.uniform(0, seconds)
        text = own / "words.txt"
        number = forks.start(
            arguments, own, text, before=(lambda at=at: kill_at(at)) if at is not None else _nothing
        )
        groups.append(number)
        done = forks.wait(number, text, kill_after=after)
        if done.code == forks.KILLED:
            kills += 1
            continue
        if "nothing to resume" in done.text and by_run:
            continue
        if "Traceback" in done.text or done.code not in (0, 2):
            return Found(kills, alone, [f"exit code {done.code}: {done.text[-1500:]}"])
        if not by_run:
            break
        if attempt > 40:
            return Found(kills, alone, [f"it does not end: {done.text[-500:]}"])
    return Found(kills, alone, wrong_with(own, expected))


def _nothing() -> None:
    """Before a call that is left alone, or killed by the clock."""


def next_call(own: Path, clock: float, chance: random.Random) -> tuple[list[str], bool]:
    """What is typed next, and whether that goes on with one run alone."""
    sweeps = sorted(own.glob("outputs/sweeps/*/sweep.json"))
    if not sweeps:
        return words(clock), False
    runs = sorted(own.glob("outputs/run/*/config.yaml"))
    if runs and chance.random() < 0.3:
        return ["resume", str(runs[-1].parent.relative_to(own))], True
    return ["resume", str(sweeps[-1].parent.relative_to(own))], False


def kill_at(operation: int) -> None:
    """Kill this process at its file operation of that number."""

    def at(number: int) -> None:
        if number == operation:
            os.kill(os.getpid(), signal.SIGKILL)

    count(at)


def count(told: Callable[[int], object]) -> None:
    """Call ``told`` with the number of each file operation that is not a mere reading."""
    numbers = itertools.count()

    def hook(event: str, given: tuple[object, ...]) -> None:
        if event in OPERATIONS:
            writes = event != "open" or (isinstance(given[2], int) and given[2] & 3)
            if writes:
                told(next(numbers))

    sys.addaudithook(hook)


def results(own: Path) -> str:
    """What the sweep's table of results is."""
    (found,) = own.glob("outputs/sweeps/*/results.csv")
    return found.read_text(encoding="utf-8")


def wrong_with(own: Path, expected: str) -> list[str]:
    """What is wrong with a sweep that is done."""
    found = sorted(own.glob("outputs/sweeps/*/results.csv"))
    if len(found) != 1:
        return [f"there are {len(found)} sweeps with results"]
    text = results(own)
    problems = [] if _rows(text) == _rows(expected) else [f"other results:\n{text}"]
    runs = sorted(path.name for path in own.glob("outputs/run/[!.]*"))
    problems += [] if len(runs) == RUNS else [f"{len(runs)} folders of runs, not {RUNS}"]
    # What has no name yet is removed with a later run.
    known = re.compile(r"\.lock|\.writing|\.run-\w+\.tmp")
    strays = [
        str(path.relative_to(own))
        for path in own.rglob("outputs/**/.*")
        if not known.fullmatch(path.name) and ".run-" not in str(path)
    ]
    return problems + [f"{stray} stays behind" for stray in strays]


def _rows(text: str) -> list[str]:
    """Its lines, without how often checkpoints were written."""
    return re.sub(r"trainer\.checkpoint_seconds=\S+", "", text).splitlines()


if __name__ == "__main__":
    main()
