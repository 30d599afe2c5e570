"""Several runs together: results.csv as they end, and a table of means over seeds and folds."""

from __future__ import annotations

import csv
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

RESULTS = "results.csv"
CODES, LOCK = ".codes", ".lock"
METRICS_SHOWN = 2
REPEATED = {"seed": "seeds", "data.fold": "folds"}
"""What repeats a setting: its runs are averaged."""


def create(output_dir: Path) -> Path:
    """Make a folder ``output_dir/sweeps/<time>`` that no other sweep has."""
    output_dir = output_dir.expanduser()
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    attempt = 1
    while True:
        folder = output_dir / "sweeps" / (stamp if attempt == 1 else f"{stamp}_{attempt}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            attempt += 1
        else:
            return folder


def add(
    folder: Path,
    overrides: Sequence[str],
    summary: Mapping[str, Any] | None,
    code: int,
    failure: str = "failed",
) -> None:
    """Append one run's rows (overrides, status, split, metric, value), and its exit code.

    A run that failed, diverged or was interrupted has one row and no metrics: half a training is
    no result. ``failure`` is the status of one that has no summary. Several processes may do this
    at once.
    """
    path = folder / RESULTS
    status = summary["status"] if summary else failure
    scores = [
        (split, metric, value)
        for split in ("validation", "test")
        for metric, value in (summary[split] if summary and status == "finished" else {}).items()
    ]
    with (
        FileLock(folder / LOCK),
        path.open("a", newline="", encoding="utf-8") as file,
        (folder / CODES).open("a", encoding="utf-8") as codes,
    ):
        codes.write(f"{code}\n")
        writer = csv.writer(file, lineterminator="\n")
        if not file.tell():
            writer.writerow(("overrides", "status", "split", "metric", "value"))
        for row in scores or [("", "", "")]:
            writer.writerow((" ".join(overrides), status, *row))


def codes(folder: Path) -> list[int]:
    """The exit codes of the runs, as they ended."""
    path = folder / CODES
    return [int(line) for line in path.read_text(encoding="utf-8").split()] if path.exists() else []


def report(folder: Path) -> None:
    """Print the metrics of every setting as mean ± standard deviation over its seeds and folds.

    A setting is named by the other overrides in which the runs differ. The metrics are those of the
    validation split where there is one: a table to choose from must not show the test split.
    """
    from rich.console import Console
    from rich.table import Table

    path = folder / RESULTS
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    common = set.intersection(*(set(row["overrides"].split()) for row in rows))
    splits = {row["split"] for row in rows}
    split = "validation" if "validation" in splits else "test"
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    unfinished: dict[str, Counter[str]] = defaultdict(Counter)
    repeated: set[str] = set()
    for row in rows:
        words = [w for w in row["overrides"].split() if w not in common]
        repeated |= {key for word in words if (key := word.partition("=")[0]) in REPEATED}
        setting = " ".join(w for w in words if w.partition("=")[0] not in REPEATED) or "all"
        if row["split"] == split:
            scores[setting][row["metric"]].append(float(row["value"]))
        elif not row["split"]:
            unfinished[setting]["diverged" if row["status"] == "diverged" else "unfinished"] += 1
    metrics = list(dict.fromkeys(name for values in scores.values() for name in values))
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("setting", overflow="fold")
    for name in ("runs", *metrics[:METRICS_SHOWN]):
        table.add_column(name, justify="right", no_wrap=True)
    for setting in dict.fromkeys([*scores, *unfinished]):
        by_metric = scores.get(setting, {})
        runs = max((len(values) for values in by_metric.values()), default=0)
        shown = ", ".join([f"{runs}", *(f"{n} {what}" for what, n in unfinished[setting].items())])
        means = [_mean(by_metric.get(name, [])) for name in metrics[:METRICS_SHOWN]]
        table.add_row(setting, shown, *means)
    console = Console(highlight=False)
    over = " and ".join(name for key, name in REPEATED.items() if key in repeated) or "seeds"
    console.print(f"\n{split.capitalize()} split, mean ± standard deviation over {over}:")
    console.print(table)
    console.print(f"Every value: {path}", soft_wrap=True)


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"
