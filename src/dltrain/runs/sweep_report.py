"""The table of several runs: means over seeds and folds."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence

from dltrain.errors import printable
from dltrain.runs.sweep import DIVERGED, RESULTS, WAITING, Sweep

METRICS_SHOWN = 2
REPEATED = {"seed": "seeds", "data.fold": "folds"}
"""What repeats a setting: its runs are averaged."""


def report(sweep: Sweep) -> None:
    """Print the metrics of every setting as mean ± standard deviation over its seeds and folds.

    A setting is named by the other overrides in which the runs differ. The metrics are those of the
    validation split where there is one: a table to choose from must not show the test split.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    jobs = [job for job in sweep.jobs().values() if job.status != WAITING]
    if not jobs:
        return
    common = set.intersection(*(set(job.overrides) for job in jobs))
    splits = {split for job in jobs for split, _, _ in job.scores}
    split = "test" if splits and "validation" not in splits else "validation"
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    unfinished: dict[str, Counter[str]] = defaultdict(Counter)
    repeated: set[str] = set()
    for job in jobs:
        words = [word for word in job.overrides if word not in common]
        repeated |= {key for word in words if (key := word.partition("=")[0]) in REPEATED}
        setting = " ".join(w for w in words if w.partition("=")[0] not in REPEATED) or "all"
        for one, metric, value in job.scores:
            if one == split:
                scores[setting][metric].append(float(value))
        if not job.scores:
            unfinished[setting][DIVERGED if job.status == DIVERGED else "unfinished"] += 1
    metrics = list(dict.fromkeys(name for values in scores.values() for name in values))
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("setting", overflow="fold")
    for name in ("runs", *metrics[:METRICS_SHOWN]):
        table.add_column(Text(printable(name)), justify="right", no_wrap=True)
    for setting in dict.fromkeys([*scores, *unfinished]):
        by_metric = scores.get(setting, {})
        runs = max((len(values) for values in by_metric.values()), default=0)
        shown = ", ".join([f"{runs}", *(f"{n} {what}" for what, n in unfinished[setting].items())])
        means = [_mean(by_metric.get(name, [])) for name in metrics[:METRICS_SHOWN]]
        # What was typed is text, also where it looks like rich's markup: regularizer=[l2].
        table.add_row(Text(printable(setting)), shown, *means)
    console = Console(highlight=False, markup=False, emoji=False)
    over = " and ".join(name for key, name in REPEATED.items() if key in repeated) or "seeds"
    console.print(f"\n{split.capitalize()} split, mean ± standard deviation over {over}:")
    console.print(table)
    console.print(printable(f"Every value: {sweep.path / RESULTS}"), soft_wrap=True)


def _mean(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {statistics.stdev(values):.4f}"
