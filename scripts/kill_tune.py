"""Kill the processes of ``dltrain tune`` at random, type it again, and see that no trial is lost.

    python scripts/kill_tune.py                     # 8 trials, 2 processes
    python scripts/kill_tune.py --trials 30 --storage sqlite:///study.db

A kill is SIGKILL, of a worker or of the command itself. In the end there must be so many trials,
each finished or pruned once; and each that outlived a kill must have the value that the same
command line reaches in one go, to the last digit. Linux alone (/proc tells the workers).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = [
    *(
        "model=mlp",
        "data=digits",
        "callbacks=none",
        "trainer.epochs=16",
        "trainer.evaluate_every=2",
    ),
    *("trainer.checkpoint_seconds=0.3", "device=cpu", "trainer.monitor=loss"),
]
SPACE = ["optimizer.lr=log(1e-4,1e-2)", "data.batch_size=16,32"]
STUDY = Path("outputs/studies/killed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the kills")
    parser.add_argument("--storage", help="a database instead of a file")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        kills, calls = killed_until_done(asked)
        trials = list(csv.DictReader((STUDY / "trials.csv").open(encoding="utf-8")))
        numbers = [int(trial["trial"]) for trial in trials]
        assert numbers == list(range(asked.trials)), numbers
        assert {trial["status"] for trial in trials} <= {"finished", "pruned"}, trials
        outlived = resumed(trials)
        for trial in outlived:
            again = value_in_one_go(trial)
            assert again == float(trial["value"]), (trial, again)
    statuses = [trial["status"] for trial in trials]
    print(
        f"{asked.trials} trials: {statuses.count('finished')} finished, "
        f"{statuses.count('pruned')} pruned, none lost, none twice, after {kills} kills in {calls} "
        f"calls; {len(outlived)} that went on from a checkpoint have the values of one go."
    )


def killed_until_done(asked: argparse.Namespace) -> tuple[int, int]:
    """Kill and type again until a call comes to its end; how many kills, and calls."""
    chance = random.Random(asked.seed)
    command = [sys.executable, "-m", "dltrain", "tune", *SETTINGS, *SPACE, "--study", "killed"]
    command += ["--trials", str(asked.trials), "--jobs", str(asked.jobs)]
    command += ["--storage", asked.storage] if asked.storage else []
    kills = calls = 0
    while True:
        calls += 1
        called = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while called.poll() is None:
            began = time.time()
            # A kill comes in the middle of training: once a run has got somewhere, and a bit later.
            while called.poll() is None and newest() < began:
                time.sleep(0.1)
            time.sleep(chance.uniform(2, 12))
            victims = [called.pid, *workers(called.pid)]
            if called.poll() is None and len(victims) > 1:
                os.kill(chance.choice(victims), signal.SIGKILL)
                kills += 1
            time.sleep(1)  # workers end with their parent
        if called.returncode == 0:
            return kills, calls


def newest() -> float:
    """When a checkpoint was last written."""
    times = [file.stat().st_mtime for file in STUDY.rglob("checkpoints/last.pt")]
    return max(times, default=0.0)


def workers(parent: int) -> list[int]:
    """Processes of its own that train."""
    try:
        found = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(p) for p in found if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes()]
    except OSError:  # it has just ended
        return []


def resumed(trials: list[dict[str, str]]) -> list[dict[str, str]]:
    """Finished trials whose run began in one process and ended in another, as its log says."""
    return [
        trial
        for trial in trials
        if trial["status"] == "finished"
        and (Path(trial["run"]) / "train.log").read_text().count(" Run ") > 2
    ]


def value_in_one_go(trial: dict[str, str]) -> float:
    """What the trial's command line reaches without a kill."""
    overrides = (Path(trial["run"]) / "overrides.txt").read_text().splitlines()
    print("again:", shlex.join(overrides), file=sys.stderr)
    command = [sys.executable, "-m", "dltrain", *overrides, "output_dir=again"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    summary = json.loads(
        (Path("again") / Path("again/latest").read_text().strip() / "summary.json").read_text()
    )
    return float(summary["validation"]["loss"])


if __name__ == "__main__":
    main()
