"""Kill a worker of a run that several processes train, ten times over; torchrun starts them again.

    python scripts/kill_workers.py                        # 10 kills, two processes
    python scripts/kill_workers.py --kills 3 --processes 3 --seed 1

One run is left alone. Another, by the same command, loses one of its processes to SIGKILL again and
again, at a moment drawn after it has made progress: rank 0 or any other. Each time torchrun
(``--max-restarts``) has to start the group anew, and the group has to go on with the same run from
its last checkpoint. In the end there must be one run folder, finished, with as many steps, and the
test metrics of the run that was left alone: to 1e-4, for the world is the same.
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMMAND = [
    *("model=mlp", "model.hidden=[64]", "data=digits", "callbacks=none", "device=cpu"),
    *("trainer.evaluate_every=50", "trainer.log_every=200", "trainer.checkpoint_seconds=0.3"),
]
CLOSE = 1e-4
PATIENCE = 120.0
"""Seconds within which a group must make progress, once it was started."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a kill and a last line; 1 where a kill was not recovered from, else 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kill-workers-") as folder:
        calm = started(asked, Path(folder) / "calm")
        if calm.wait():
            print("the run that was left alone failed")
            return 1
        killed, recovered = disturb(asked, Path(folder) / "killed")
        one, other = (summary(Path(folder) / name) for name in ("calm", "killed"))
    same = other["status"] == "finished" and other["steps"] == one["steps"]
    apart = max(abs(one["test"][name] - other["test"][name]) for name in one["test"])
    print(
        f"{killed} kills, {recovered} recoveries; {other['status']} after {other['steps']:,} "
        f"steps; test metrics differ by at most {apart:.1e} from those of the run left alone"
    )
    return int(not (same and apart < CLOSE and recovered == killed == asked.kills))


def started(asked: argparse.Namespace, place: Path) -> subprocess.Popen[bytes]:
    """Torchrun with the processes that train a run in ``place``."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={asked.processes}", f"--max-restarts={asked.kills}"]
    command += ["--monitor-interval=0.1", "-m", "dltrain", *COMMAND]
    command += [f"trainer.steps={asked.steps}", f"output_dir={place}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with place.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def disturb(asked: argparse.Namespace, place: Path) -> tuple[int, int]:
    """How often a worker was killed, and how often the group went on."""
    draw = random.Random(asked.seed)
    group = started(asked, place)
    killed = recovered = 0
    try:
        before = progress_after(group, place, -1)
        while killed < asked.kills and before is not None:
            time.sleep(draw.uniform(0.1, 1.0))
            workers = children(group.pid)
            if len(workers) < asked.processes or group.poll() is not None:
                break
            rank = draw.randrange(asked.processes)
            os.kill(workers[rank], signal.SIGKILL)
            killed += 1
            began = time.perf_counter()
            before = saved_at(place)
            gone(workers)
            before = progress_after(group, place, before)
            if before is None:
                recovered += group.wait() == 0  # it has finished, and needed no other checkpoint
                break
            recovered += 1
            print(
                f"kill {killed}: process {rank + 1} of {asked.processes}; "
                f"goes on after {time.perf_counter() - began:.1f} s",
                flush=True,
            )
        group.wait()
    finally:
        group.kill()
    return killed, recovered


def progress_after(group: subprocess.Popen[bytes], place: Path, before: float) -> float | None:
    """When the next checkpoint after ``before`` was written; None where there will be none."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until and group.poll() is None:
        now = saved_at(place)
        if now > before:
            return now
        time.sleep(0.05)
    return None


def saved_at(place: Path) -> float:
    """When the last checkpoint was written."""
    found = [file.stat().st_mtime for file in place.glob("*/2*/checkpoints/last.pt")]
    return max(found, default=-1)


def children(parent: int) -> list[int]:
    """The processes that ``parent`` has started, in order."""
    return [int(n) for n in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]


def gone(processes: Sequence[int]) -> None:
    """Wait until all of a group have ended, as torchrun ends those that are left."""
    while any(Path(f"/proc/{one}").exists() for one in processes):
        time.sleep(0.05)


def summary(place: Path) -> dict[str, Any]:
    """What came of the only run in ``place``."""
    (file,) = place.glob("*/2*/summary.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


if __name__ == "__main__":
    sys.exit(main())
