"""Train every row of the README's results table, and write the table.

    python scripts/results.py                      # all rows, three seeds each
    python scripts/results.py --rows digits line   # some; the others stay as they are
    python scripts/results.py --jobs 2             # two runs at once, on half the cores each
    python scripts/results.py --check              # exit 1 if a kept result is under its bound

Each run is the command that the table shows, in a process of its own; a figure is the mean over
seeds of the last epoch on the test split. What was measured is kept in scripts/results.json,
from which the table between the README's markers is made. Data is read from DLTRAIN_DATA, else
from ../shared/data if that is there, else downloaded.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "scripts" / "results.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def accuracy(folder: Path) -> float:
    """Per cent of the test split."""
    return 100 * json.loads((folder / "summary.json").read_text())["test"]["accuracy"]


def mean_squared_error(folder: Path) -> float:
    """Of the test split."""
    return json.loads((folder / "summary.json").read_text())["test"]["mse"]


def largest_error(folder: Path) -> float:
    """The largest distance of a prediction from its target."""
    with (folder / "tables" / "test_predictions.csv").open(newline="") as file:
        return max(abs(float(r["target"]) - float(r["prediction"])) for r in csv.DictReader(file))


def splits(folder: Path) -> tuple[Any, Any, Any, Any]:
    """The run's training and test inputs and targets, as its network saw them."""
    import torch
    import yaml

    from dltrain.build import build
    from dltrain.types import Loader, Source

    config = yaml.safe_load((folder / "config.yaml").read_text())
    source = build(config["data"], Source, "data")
    loaders = source.loaders(torch.device("cpu"), config["seed"])

    def whole(loader: Loader) -> tuple[Any, Any]:
        batches = list(loader)
        columns = [torch.cat([b[name] for b in batches]) for name in ("input", "target")]
        return columns[0].double().numpy(), columns[1].numpy()

    return *whole(loaders.train), *whole(loaders.test)


def distance_from_least_squares(folder: Path) -> float:
    """The largest relative difference of a coefficient from the closed-form solution's."""
    import numpy as np

    import dltrain

    inputs, targets, _, _ = splits(folder)
    design = np.hstack([inputs, np.ones((len(inputs), 1))])
    exact = np.linalg.lstsq(design, targets.astype(float), rcond=None)[0].ravel()
    task = dltrain.load(folder)
    found = np.concatenate([p.detach().double().numpy().ravel() for p in task.parameters()])
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def distance_from_sklearn(folder: Path) -> float:
    """Percentage points between the test accuracy and that of scikit-learn's own."""
    from sklearn.linear_model import LogisticRegression

    inputs, targets, test_inputs, test_targets = splits(folder)
    theirs = LogisticRegression(max_iter=10_000).fit(inputs, targets)
    return abs(accuracy(folder) - 100 * theirs.score(test_inputs, test_targets))


@dataclass(frozen=True)
class Row:
    """One line of the table: a command, what it must reach, what others report."""

    arguments: str
    unit: str
    measure: Callable[[Path], float]
    bound: float | None
    """None: only reported."""
    anchor: str = ""
    at_most: bool = False
    seconds: float | None = None
    seeds: int | None = None
    """How many seeds, where it is not the default."""


ROWS = {
    "xor": Row("experiment=xor_mlp", "% accuracy", accuracy, 100.0, seeds=20),
    "diabetes": Row(
        "experiment=diabetes_linreg",
        "from least squares",
        distance_from_least_squares,
        1e-4,
        "the closed form",
        at_most=True,
    ),
    "iris": Row(
        "experiment=iris_logreg",
        "points from scikit-learn",
        distance_from_sklearn,
        1.0,
        "scikit-learn, same split",
        at_most=True,
    ),
    "breast_cancer": Row(
        "experiment=breast_cancer_logreg",
        "points from scikit-learn",
        distance_from_sklearn,
        1.0,
        "scikit-learn, same split",
        at_most=True,
    ),
    "line": Row("model=linreg data=line", "largest error", largest_error, 1e-3, at_most=True),
    "digits": Row("", "% accuracy", accuracy, 98.0, seconds=60),
    "logreg": Row(
        "experiment=logreg_mnist", "% accuracy", accuracy, 92.0, "91.8, softmax regression"
    ),
    "mlp": Row("experiment=mlp_mnist", "% accuracy", accuracy, 98.4, "97.5 to 97.8 in tutorials"),
    "mlp_best": Row(
        "experiment=mlp_mnist_best",
        "% accuracy",
        accuracy,
        99.2,
        "98.95 without augmentation, 99.30 with elastic",
        seconds=600,
    ),
    "lenet5": Row(
        "experiment=lenet5_mnist", "% accuracy", accuracy, 99.0, "99.05 (LeCun et al. 1998)"
    ),
    "lenet5_best": Row(
        "experiment=lenet5_mnist_best",
        "% accuracy",
        accuracy,
        99.5,
        "99.2 with distortions (LeCun et al. 1998)",
        seconds=600,
    ),
    "cnn": Row("experiment=cnn_mnist", "% accuracy", accuracy, 99.2, "99.22, Keras's example"),
    "alexnet": Row(
        "experiment=alexnet_cifar10 data=hub data.path=$DLTRAIN_DATA/cifar10 data.image=img "
        "data.label=label",
        "% accuracy",
        accuracy,
        75.0,
        "72.1 and 77.2 on the original; this is a copy of JPEGs",
        seconds=1200,
    ),
    "rnn": Row("model=rnn data=imdb", "% accuracy", accuracy, 82.0, "73.9 packed, 46 unpacked"),
    "gru": Row("model=gru data=imdb", "% accuracy", accuracy, 88.0, "85.1"),
    "lstm": Row("model=lstm data=imdb", "% accuracy", accuracy, 88.0, "85.1"),
    "imdb_rnn": Row("experiment=imdb_rnn", "% accuracy", accuracy, None, "46 to 74"),
    "imdb_bilstm": Row("experiment=imdb_bilstm", "% accuracy", accuracy, None, "83 to 86"),
    "imdb_best": Row(
        "experiment=imdb_best",
        "% accuracy",
        accuracy,
        90.5,
        "86.2 with GloVe; 91.9, the best published of the kind",
        seconds=2700,
    ),
    "adding_rnn": Row("model=rnn data=adding", "MSE", mean_squared_error, 0.1, "0.167 by chance"),
    "adding_gru": Row("model=gru data=adding", "MSE", mean_squared_error, 0.01, at_most=True),
    "adding_lstm": Row("model=lstm data=adding", "MSE", mean_squared_error, 0.01, at_most=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--check", action="store_true", help="train nothing; check what is kept")
    arguments = parser.parse_args()
    beside = ROOT.parent / "shared" / "data"
    if beside.is_dir():
        os.environ.setdefault("DLTRAIN_DATA", str(beside))
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    if not arguments.check:
        for name, result in measured(arguments.rows, arguments.seeds, arguments.jobs):
            kept[name] = result
            KEPT.write_text(json.dumps(kept, indent=2) + "\n")
            write_table(kept)
    short = [name for name, row in ROWS.items() if not reached(row, kept.get(name))]
    if short:
        sys.exit(f"under their bound, or not measured: {', '.join(short)}")


def measured(names: list[str], seeds: list[int], jobs: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each row as soon as all its seeds have run, ``jobs`` commands at a time."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    device = f"{threads} core{'s' if threads > 1 else ''}, {platform.machine()}"
    with ThreadPoolExecutor(jobs) as pool:
        runs = {}
        for name in names:
            own = list(range(1, (ROWS[name].seeds or 0) + 1)) or seeds
            runs[name] = own, [pool.submit(run, ROWS[name], seed, threads) for seed in own]
        for name, (own, started) in runs.items():
            values, seconds = zip(*(one.result() for one in started), strict=True)
            yield name, {"seeds": own, "values": values, "seconds": seconds, "device": device}


def run(row: Row, seed: int, threads: int) -> tuple[float, float]:
    """The row's figure for one seed, and the seconds that its command took."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*os.path.expandvars(row.arguments).split(), f"seed={seed}", f"output_dir={folder}"]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "dltrain", *words],
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        )
        seconds = round(time.perf_counter() - started, 1)
        value = row.measure(Path(folder) / "latest")
    print(f"dltrain {row.arguments} seed={seed}: {value:.6g} in {seconds:.1f} s", flush=True)
    return value, seconds


def reached(row: Row, result: dict[str, Any] | None) -> bool:
    """Whether the mean keeps its bound, in time."""
    if result is None:
        return False
    mean = statistics.fmean(result["values"])
    in_time = row.seconds is None or max(result["seconds"]) <= row.seconds
    if row.bound is None:
        return in_time
    return in_time and (mean <= row.bound if row.at_most else mean >= row.bound)


def write_table(kept: dict[str, Any]) -> None:
    """Put the table between the README's markers."""
    lines = [
        "| command | result | at least | published | time | device |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        bound = "" if row.bound is None else f"{'≤' if row.at_most else '≥'} {row.bound:g}"
        command = f"`dltrain {row.arguments}`".replace(" `", "`")
        result = kept.get(name)
        if result is None:
            lines.append(f"| {command} | not measured | {bound} | {row.anchor} | | |")
            continue
        values, seconds = result["values"], statistics.fmean(result["seconds"])
        percent = row.unit.startswith("%")
        shown = f"{statistics.fmean(values):{'.2f' if percent else '.2g'}}"
        if percent:
            shown += f" ± {statistics.stdev(values):.2f}"
        lines.append(
            f"| {command} | {shown} {row.unit} | {bound} | {row.anchor} | {seconds:.0f} s | "
            f"{result['device']} |"
        )
    text = README.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    README.write_text(f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}")


if __name__ == "__main__":
    main()
