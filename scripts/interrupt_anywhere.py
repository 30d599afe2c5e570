"""Send signals at random moments, to every kind of command, through both of its doors.

    python scripts/interrupt_anywhere.py --count 20
    python scripts/interrupt_anywhere.py --case 7 --seed 0       # one again

A case is a command, a door (``dltrain`` or ``python -m dltrain``), a moment between the first and
the last of an undisturbed call, and a signal: Ctrl-C, as a terminal sends it to all processes of
the group, once or twice; SIGTERM, SIGHUP, SIGUSR1 to the command alone. Wanted: no traceback, at
most one line of the end on standard error, the exit code of the signal (or, where the command was
done, its own), and nothing left running. What was trained is known as interrupted or finished, and
goes on to its end. Linux (/proc).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from reliability import write_result

SMALL = "model=mlp data=digits device=cpu"
COMMANDS = {
    "train": f"{SMALL} trainer.epochs=20 trainer.evaluate_every=5",
    "several": f"-m {SMALL} callbacks=none trainer.epochs=4 seed=1,2,3",
    "parallel": f"-m {SMALL} callbacks=none trainer.epochs=4 seed=1,2,3 hydra/launcher=joblib "
    "hydra.launcher.n_jobs=2",
    "tune": f"tune {SMALL} callbacks=none trainer.epochs=3 optimizer.lr=log(1e-4,1e-2) --trials 4",
    "tune_jobs": f"tune {SMALL} callbacks=none trainer.epochs=3 optimizer.lr=log(1e-4,1e-2) "
    "--trials 4 --jobs 2",
    "lr-find": f"lr-find {SMALL}",
    "profile": f"profile {SMALL}",
    "predict": "predict RUN 2.csv",
    "evaluate": "evaluate RUN",
    "export": "export RUN --out net.pt2",
    "serve": "serve RUN --port 0",
    "runs": "runs",
    "compare": "compare RUN RUN2",
    "list": "list model",
    "help": "--help",
    "cfg": f"--cfg job {SMALL}",
    "completion": "completion bash",
}
TRAINS = {"train", "several", "parallel"}
SERVES = {"serve"}
SECONDS_OF_SERVING = 8.0
SIGNALS = (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
BAD = ("Traceback", "Exception ignored", "Error:", "resource_tracker", "leaked")
HANGS = 120.0


class Case(NamedTuple):
    """One call, and how it is disturbed."""

    number: int
    name: str
    door: str
    number_of_signal: signal.Signals
    moment: float
    """Of the time of an undisturbed call."""
    twice_after: float | None


def cases(seed: int, names: Sequence[str]) -> Iterator[Case]:
    """Cases without an end; each by its number alone."""
    number = 0
    while True:
        chance = random.Random(f"{seed} {number}")
        which = chance.choice(SIGNALS)
        yield Case(
            number,
            names[number % len(names)],
            chance.choice(("script", "module")),
            which,
            chance.random() * 1.02,
            chance.uniform(0.02, 0.8) if which == signal.SIGINT and chance.random() < 0.4 else None,
        )
        number += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=34)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="calls at once")
    parser.add_argument("--case", type=int, help="this one alone")
    parser.add_argument("--only", help="commands, with commas between them")
    parser.add_argument("--write", action="store_true", help="into scripts/reliability.json")
    asked = parser.parse_args()
    names = asked.only.split(",") if asked.only else list(COMMANDS)
    os.environ["OMP_NUM_THREADS"] = "1"
    first = asked.case or 0
    count = 1 if asked.case is not None else asked.count
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        made = prepare(base)
        chosen = list(islice(cases(asked.seed, names), first, first + count))
        seconds = {name: undisturbed(name, base, made) for name in {one.name for one in chosen}}
        with ThreadPoolExecutor(asked.jobs) as pool:
            found = list(pool.map(lambda one: disturbed(one, base, made, seconds), chosen))
    failures = 0
    only = f" --only {asked.only}" if asked.only else ""
    for one, problems in zip(chosen, found, strict=True):
        failures += bool(problems)
        for problem in problems:
            again = f"python scripts/interrupt_anywhere.py --case {one.number} --seed {asked.seed}"
            print(f"{one}: {problem}\n  {again}{only}")
    print(f"{count} signals to {len(seconds)} kinds of commands: {failures} failures.")
    if asked.write:
        write_result("signals", {"signals": count, "seed": asked.seed, "failures": failures})
    sys.exit(failures > 0)


def prepare(base: Path) -> list[str]:
    """Two runs, and rows to predict from; the runs' paths."""
    table = base / "2.csv"
    table.write_text("a,b\n" + "1,2\n3,4\n" * 4)
    data = f"data=csv data.path={base}/rows.csv data.target=kind"
    (base / "rows.csv").write_text("a,b,kind\n" + "1,2,x\n3,4,y\n" * 40)
    for _ in range(2):
        call([*door("module"), *f"{data} model=mlp device=cpu trainer.epochs=1".split()], base)
    runs = sorted(path.parent for path in base.glob("outputs/*/*/summary.json"))
    assert len(runs) == 2, "the runs to begin with are not there"
    return [str(path) for path in runs]


def door(name: str) -> list[str]:
    """How dltrain is called."""
    if name == "script":
        return [str(Path(sys.executable).with_name("dltrain"))]
    return [sys.executable, "-m", "dltrain"]


def words(name: str, base: Path, made: Sequence[str]) -> list[str]:
    """What is typed after it."""
    typed = COMMANDS[name].replace("RUN2", made[1]).replace("RUN", made[0])
    return [str(base / word) if word == "2.csv" else word for word in typed.split()]


def call(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def undisturbed(name: str, base: Path, made: Sequence[str]) -> float:
    """Seconds that the command takes if it is left alone."""
    if name in SERVES:
        return SECONDS_OF_SERVING
    with tempfile.TemporaryDirectory(dir=base) as folder:
        began = time.monotonic()
        done = call([*door("module"), *words(name, base, made)], Path(folder))
        assert done.returncode == 0, f"{name}: {done.stderr}"
        return time.monotonic() - began


def disturbed(one: Case, base: Path, made: Sequence[str], seconds: dict[str, float]) -> list[str]:
    """What is wrong with a call that was sent a signal."""
    with tempfile.TemporaryDirectory(dir=base) as folder:
        process = subprocess.Popen(
            [*door(one.door), *words(one.name, base, made)],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            ready(process)
            time.sleep(one.moment * seconds[one.name])
            send(process, one)
            if one.twice_after is not None:
                time.sleep(one.twice_after)
                send(process, one)
            try:
                out, err = process.communicate(timeout=HANGS)
            except subprocess.TimeoutExpired:
                return ["it hangs"]
            problems = wrong_with(one, process.returncode, out, err)
            if alive(process.pid):
                problems.append("a process of it is still there")
        finally:
            kill_group(process.pid)
        if one.name in TRAINS and not problems:
            problems += gone_on(one.name, Path(folder))
        return problems


def ready(process: subprocess.Popen[str]) -> None:
    """Wait until it handles SIGTERM: before that it is Python that starts, and not dltrain."""
    status, bit = Path(f"/proc/{process.pid}/status"), 1 << (signal.SIGTERM - 1)
    while process.poll() is None:
        with contextlib.suppress(OSError):
            caught = next(line for line in status.read_text().splitlines() if "SigCgt" in line)
            if int(caught.split()[1], 16) & bit:
                return
        time.sleep(0.002)


def send(process: subprocess.Popen[str], one: Case) -> None:
    with contextlib.suppress(ProcessLookupError):
        if one.number_of_signal == signal.SIGINT:
            os.killpg(process.pid, one.number_of_signal)
        else:
            process.send_signal(one.number_of_signal)


def wrong_with(one: Case, code: int, out: str, err: str) -> list[str]:
    """What is wrong with how it ended."""
    problems = [f"{bad!r} in: {err[-1500:]}" for bad in BAD if bad in out + err][:1]
    wanted = {0, 128 + one.number_of_signal}
    if one.name == "tune_jobs":  # what its processes are sent is SIGTERM
        wanted.add(128 + signal.SIGTERM)
    if code not in wanted:
        problems.append(f"exit code {code}: {err[-500:]}")
    lines = [line for line in err.splitlines() if line.startswith("Interrupted")]
    if len(lines) > 1 or (code > 128 and not lines and one.name != "train" and not out):
        problems.append(f"{len(lines)} lines of the end: {err[-500:]!r}")
    return problems


def alive(group: int) -> bool:
    """Whether a process of the group is left, after a moment to end."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def gone_on(name: str, folder: Path) -> list[str]:
    """What is wrong with what was trained, and with going on with it."""
    from dltrain.runs.listing import runs_below

    outputs = folder / "outputs"
    statuses = {run.status for run in runs_below(outputs)} if outputs.is_dir() else set()
    problems = [f"a run is {one}" for one in statuses - {"interrupted", "finished"}]
    sweeps = sorted(outputs.glob("sweeps/*/sweep.json"))
    for what in sweeps or sorted(outputs.glob("*/*/config.yaml")):
        done = call([*door("module"), "resume", str(what.parent.relative_to(folder))], folder)
        if done.returncode and "nothing to resume" not in done.stderr:
            problems.append(f"resume: {done.stderr[-800:]}")
    after = {run.status for run in runs_below(outputs)} if outputs.is_dir() else set()
    problems += [f"after resume a run is {one}" for one in after - {"finished"}]
    if sweeps:
        rows = (sweeps[0].parent / "results.csv").read_text(encoding="utf-8").splitlines()
        seeds = [row.split(",")[0] for row in rows if ",validation,accuracy," in row]
        if len(seeds) != 3 or len(set(seeds)) != 3:
            problems.append(f"results.csv has {seeds}")
    return problems


if __name__ == "__main__":
    main()
