"""Kill sweeps that train in processes of joblib's or submitit's, and go on until they are done.

    python scripts/kill_launchers.py                                   # both, 4 runs, a few kills
    python scripts/kill_launchers.py --only joblib --runs 8 --kills 6

A kill is SIGKILL, of the command or of a process that trains. Then the sweep is gone on with, by
the same launcher. In the end there must be as many runs as were typed, each finished once, with the
results of a sweep that nobody has disturbed. Linux alone (/proc tells the processes).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SETTINGS = ["model=mlp", "data=digits", "callbacks=none", "device=cpu", "name=run"]
SETTINGS += ["trainer.epochs=12", "trainer.checkpoint_seconds=0.3"]
LAUNCHERS = {
    "joblib": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"],
    "submitit_local": ["hydra/launcher=submitit_local"],
}
COMMAND = [sys.executable, "-m", "dltrain"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=4)
    parser.add_argument("--kills", type=int, default=3, help="of each launcher, at least")
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--only", nargs="+", default=list(LAUNCHERS), choices=LAUNCHERS)
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    failed = 0
    with tempfile.TemporaryDirectory() as place:
        seeds = f"seed={','.join(map(str, range(1, asked.runs + 1)))}"
        expected = undisturbed(Path(place) / "undisturbed", seeds)
        for name in asked.only:
            problems, said = killed(Path(place) / name, name, seeds, asked)
            if not problems:
                problems = wrong_with(Path(place) / name, expected, asked.runs)
            failed += bool(problems)
            print(f"{name}: {asked.runs} runs, {said}: {'; '.join(problems) or 'as undisturbed'}")
    return 1 if failed else 0


def undisturbed(place: Path, seeds: str) -> list[str]:
    """The results of the sweep in one process."""
    place.mkdir()
    subprocess.run([*COMMAND, "-m", *SETTINGS, seeds], cwd=place, check=True, capture_output=True)
    return results(place)


def killed(place: Path, name: str, seeds: str, asked: argparse.Namespace) -> tuple[list[str], str]:
    """Kill a sweep and go on with it until it is done; what is wrong, and how often it was."""
    place.mkdir()
    chance, launcher = random.Random(asked.seed), LAUNCHERS[name]
    words = ["-m", *launcher, *SETTINGS, seeds]
    victims: Counter[str] = Counter()
    for call in range(1, 60):
        with (place / "said.txt").open("w") as said:
            command = subprocess.Popen([*COMMAND, *words], cwd=place, stdout=said, stderr=said)
            if victims.total() < asked.kills:
                victims.update(kill_one(command.pid, chance))
            code = command.wait()
        text = (place / "said.txt").read_text(errors="replace")
        done = code == 0 or "nothing to resume" in text
        if done:
            kinds = ", ".join(f"{count} of a {kind}" for kind, count in victims.items())
            return [], f"{victims.total()} kills ({kinds}) in {call} calls"
        if "still running in another process" in text:
            time.sleep(2)  # what outlives its command ends by itself
        sweeps = list(place.glob("outputs/sweeps/*/sweep.json"))
        if sweeps:
            words = ["resume", str(sweeps[0].parent.relative_to(place)), *launcher]
    return [f"it does not end: {text[-800:]}"], f"{victims.total()} kills"


def kill_one(command: int, chance: random.Random) -> list[str]:
    """Kill the command or one of its processes once it trains, some time later; which it was."""
    began = time.time()
    while time.time() - began < 120 and not workers(command):
        time.sleep(0.05)
    time.sleep(chance.uniform(3, 9))
    alive = workers(command)
    kind = chance.choice(["command", "worker"]) if alive else "command"
    try:
        os.kill(command if kind == "command" else chance.choice(alive), signal.SIGKILL)
    except ProcessLookupError:  # it has ended
        return []
    return [kind]


def children(parent: int) -> list[int]:
    """Those of a process, and theirs."""
    try:
        direct = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except OSError:
        return []
    return [n for child in map(int, direct) for n in (child, *children(child))]


def workers(command: int) -> list[int]:
    """Processes of a launcher that run a job."""
    found = []
    for number in children(command):
        try:
            line = Path(f"/proc/{number}/cmdline").read_bytes()
        except OSError:
            continue
        if b"popen_loky" in line or b"submitit.core._submit" in line:
            found.append(number)
    return found


def results(place: Path) -> list[str]:
    """Lines of the sweep's table that say what a run has reached, without the overrides' order."""
    (table,) = place.glob("outputs/sweeps/*/results.csv")
    rows = table.read_text(encoding="utf-8").splitlines()[1:]
    return sorted(
        f"{next(w for w in row.partition(',')[0].split() if w.startswith('seed='))} "
        f"{row.partition(',')[2]}"
        for row in rows
    )


def wrong_with(place: Path, expected: list[str], runs: int) -> list[str]:
    """What is wrong with a sweep that is done."""
    problems = [] if results(place) == expected else ["other results"]
    folders = [path for path in place.glob("outputs/run/*") if not path.name.startswith(".")]
    if len(folders) != runs:
        problems.append(f"{len(folders)} folders of runs, not {runs}")
    (jobs,) = place.glob("outputs/sweeps/*/jobs.jsonl")
    events = [json.loads(line) for line in jobs.read_text().splitlines() if line.endswith("}")]
    ends = Counter(one["job"] for one in events if one.get("status") == "finished")
    begun_again = [job for job, count in ends.items() if count > 1]
    return problems + [f"run {job} was finished more than once" for job in begun_again]


if __name__ == "__main__":
    sys.exit(main())
