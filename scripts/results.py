"""Train every row of the tables of results, and write them: docs/results.md has all, README.md few.

    python scripts/results.py                      # all rows, each with its own seeds
    python scripts/results.py --rows digits line   # some; the others stay as they are
    python scripts/results.py --jobs 2             # two runs at once, on half the cores each
    python scripts/results.py --seeds 3 --add      # one more seed, beside those already kept
    taskset -c 1 python scripts/results.py --cores 1 --cpu-time   # beside other work
    python scripts/results.py --check              # exit 1 if a kept result is under its bound
    python scripts/results.py --tables             # write the tables from what is kept

Each run is the command that the table shows, in a process of its own; a figure is the mean over
seeds of the last epoch on the test split. With ``--cpu-time`` the time is what the processors spent
on the run, for machines that do other work too. What was measured is kept in scripts/results.json,
from which the tables between the markers of docs/results.md and README.md are made; the rows are
in scripts/result_rows.py. Data is read from DLTRAIN_DATA, else from ../shared/data if that is
there, else downloaded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from dltrain.runs.finding import latest
from result_rows import AREAS, BEST_KNOWN, ROWS, Figure, Row

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "scripts" / "results.json"
PAGE, README = ROOT / "docs" / "results.md", ROOT / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
HEAD = [
    "| command | result | at least | published | time | device |",
    "|---|---|---|---|---|---|",
]
SHORT_HEAD = ["| area | command | result | published |", "|---|---|---|---|"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of each row's own")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 1, help="of all runs")
    parser.add_argument("--add", action="store_true", help="to the seeds that are kept")
    parser.add_argument(
        "--cpu-time", action="store_true", help="time by the processors, not by the clock"
    )
    parser.add_argument("--check", action="store_true", help="train nothing; check what is kept")
    parser.add_argument("--tables", action="store_true", help="train nothing; write the tables")
    arguments = parser.parse_args()
    beside = ROOT.parent / "shared" / "data"
    if beside.is_dir():
        os.environ.setdefault("DLTRAIN_DATA", str(beside))
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if arguments.tables:
        write_tables(kept)
        return
    with tempfile.TemporaryDirectory() as folder:
        if not arguments.check:
            bench = Bench(arguments.jobs, arguments.cores, arguments.cpu_time)
            if any("$CLASSIFIER" in ROWS[name].arguments for name in arguments.rows):
                bench.train_classifier(Path(folder))
            for name, result in bench.measured(arguments.rows, arguments.seeds):
                kept[name] = added(kept.get(name), result) if arguments.add else result
                KEPT.write_text(json.dumps(kept, indent=2) + "\n")
                write_tables(kept)
    short = [name for name, row in ROWS.items() if not reached(row, kept.get(name))]
    if short:
        sys.exit(f"under their bound, or not measured: {', '.join(short)}")


class Bench:
    """Runs commands, ``jobs`` at a time, on ``cores`` in all."""

    def __init__(self, jobs: int, cores: int, cpu_time: bool) -> None:
        self.jobs, self.threads, self.cpu_time = jobs, max(1, cores // jobs), cpu_time
        several = "s" if self.threads > 1 else ""
        self.device = f"{self.threads} core{several}, {platform.machine()}"
        if cpu_time:
            self.device += ", CPU time"

    def train_classifier(self, folder: Path) -> None:
        """Train the classifier that measures sample quality, unless one is named already."""
        if "CLASSIFIER" not in os.environ:
            self.command("experiment=lenet5_mnist", 0, str(folder))
            os.environ["CLASSIFIER"] = str(latest(folder))

    def measured(
        self, names: list[str], seeds: list[int] | None
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each row as soon as all its seeds have run."""
        with ThreadPoolExecutor(self.jobs) as pool:
            runs = {}
            for name in names:
                own = list(seeds or ROWS[name].seeds)
                runs[name] = own, [pool.submit(self.run, ROWS[name], seed) for seed in own]
            for name, (own, started) in runs.items():
                values, seconds = zip(*(one.result() for one in started), strict=True)
                yield (
                    name,
                    {"seeds": own, "values": values, "seconds": seconds, "device": self.device},
                )

    def run(self, row: Row, seed: int) -> tuple[list[float], float]:
        """The row's figures for one seed, and the seconds that its command took."""
        with tempfile.TemporaryDirectory() as folder:
            seconds = self.command(row.arguments, seed, folder)
            values = [figure.measure(latest(Path(folder))) for figure in row.figures]
        shown = ", ".join(f"{v:.6g}" for v in values)
        print(f"dltrain {row.arguments} seed={seed}: {shown} in {seconds:.1f} s", flush=True)
        return values, seconds

    def command(self, arguments: str, seed: int, folder: str) -> float:
        """Run it in a process of its own; return the seconds that it took."""
        words = [
            *shlex.split(os.path.expandvars(arguments)),
            f"seed={seed}",
            f"output_dir={folder}",
        ]
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "dltrain", *words],
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": str(self.threads)},
        )
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            sys.exit(f"dltrain {' '.join(words)}: {os.waitstatus_to_exitcode(status)}")
        spent = usage.ru_utime + usage.ru_stime
        return round(spent if self.cpu_time else time.perf_counter() - started, 1)


def added(kept: dict[str, Any] | None, new: dict[str, Any]) -> dict[str, Any]:
    """Both results as one; a seed that was measured again is as it is now."""
    if kept is None:
        return new
    seeds: dict[int, tuple[Any, float]] = {}
    for one in (kept, new):
        seeds |= zip(one["seeds"], zip(one["values"], one["seconds"], strict=True), strict=True)
    values, seconds = zip(*(seeds[seed] for seed in sorted(seeds)), strict=True)
    devices = [new["device"]]
    if not {*kept["seeds"]} <= {*new["seeds"]}:
        devices = [*kept["device"].split(" or "), new["device"]]
    device = " or ".join(dict.fromkeys(devices))
    return {"seeds": sorted(seeds), "values": values, "seconds": seconds, "device": device}


def reached(row: Row, result: dict[str, Any] | None) -> bool:
    """Whether the mean of each figure keeps its bound, in time: bounds of time are of cores."""
    if result is None:
        return False
    by_cores = "core" in result["device"]
    in_time = row.seconds is None or (by_cores and max(result["seconds"]) <= row.seconds)
    means = map(statistics.fmean, zip(*result["values"], strict=True))
    return in_time and all(map(within, row.figures, means))


def within(figure: Figure, mean: float) -> bool:
    if figure.bound is None:
        return True
    return mean <= figure.bound if figure.at_most else mean >= figure.bound


def write_tables(kept: dict[str, Any]) -> None:
    """Put all rows between the markers of docs/results.md, the best known between the README's."""
    for path, table in ((PAGE, full_table(kept)), (README, short_table(kept))):
        write_between(path, BEGIN, END, table)


def write_between(path: Path, begin: str, end: str, table: str) -> None:
    """Put ``table`` between two markers of a page; ends the script where a marker is missing."""
    text = path.read_text(encoding="utf-8")
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        sys.exit(f"{path.name} has no {begin} … {end}")
    path.write_text(f"{head}{begin}\n{table}\n{end}{tail}", encoding="utf-8")


def full_table(kept: dict[str, Any]) -> str:
    """All rows, an area a table, folded."""
    lines: list[str] = []
    for name, row in ROWS.items():
        if name in AREAS:
            lines += ["", "</details>", ""] if lines else []
            lines += [f"<details><summary>{AREAS[name]}</summary>", "", *HEAD]
        lines.append(f"| {' | '.join(cells(row, kept.get(name)))} |")
    return "\n".join([*lines, "", "</details>"])


def short_table(kept: dict[str, Any]) -> str:
    """The rows of results that are best known, with their areas, folded."""
    lines = ["<details><summary>Results by area</summary>", "", *SHORT_HEAD]
    area = ""
    for name, row in ROWS.items():
        area = AREAS.get(name, area)
        if name in BEST_KNOWN:
            command, result, _, anchor, *_ = cells(row, kept.get(name))
            command = re.sub(r"\$DLTRAIN_DATA/[\w./-]+", "DIR", command)
            command = command.replace("$CLASSIFIER", "RUN")
            lines.append(f"| {area} | {command} | {result} | {anchor} |")
            area = ""
    return "\n".join([*lines, "", "</details>"])


def cells(row: Row, result: dict[str, Any] | None) -> list[str]:
    """Command, result, bound, what is published, time and device of one row."""
    command = f"`dltrain {row.arguments}`".replace(" `", "`")
    if result is None:
        return [command, "not measured", bounds(row), row.anchor, "", ""]
    return [
        command,
        "; ".join(map(shown, row.figures, zip(*result["values"], strict=True))),
        bounds(row),
        row.anchor,
        f"{statistics.fmean(result['seconds']):.0f} s",
        result["device"],
    ]


def shown(figure: Figure, values: Sequence[float]) -> str:
    """The mean of seeds, and their standard deviation."""
    small = figure.at_most and statistics.fmean(values) < 1
    digits = figure.digits or (".2g" if small else ".2f")
    if len(values) == 1:
        return f"{values[0]:{digits}} {figure.unit} (one seed)"
    std = statistics.stdev(values)
    few = " (two seeds)" if len(values) == 2 else ""
    return f"{statistics.fmean(values):{digits}} ± {std:{digits}} {figure.unit}{few}"


def bounds(row: Row) -> str:
    """What the row must reach; with several figures, which is which."""
    several = len(row.figures) > 1
    return "; ".join(
        f"{'≤' if one.at_most else '≥'} {one.bound:g}{f' {one.unit}' if several else ''}"
        for one in row.figures
        if one.bound is not None
    )


if __name__ == "__main__":
    main()
