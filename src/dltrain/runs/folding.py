"""Runs that differ in their seed or fold alone, as one: mean and standard deviation."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dltrain.runs.listing import SPLITS, Listed
from dltrain.runs.sweep_report import REPEATED

ELSEWHERE = {"name", "output_dir"}
"""Keys that change nothing of what is trained."""


@dataclass(frozen=True)
class Value:
    """A metric of some runs: ``std`` is None of a single one."""

    mean: float
    std: float | None
    n: int
    split: str


@dataclass(frozen=True)
class Row:
    """A run, or several that repeat it; the newest is the first."""

    runs: Sequence[Listed]
    older: int = 0
    """Runs that are left out, for a newer one has the same seed."""

    @property
    def first(self) -> Listed:
        """The newest run."""
        return self.runs[0]

    @property
    def metrics(self) -> list[str]:
        """What any of its runs has."""
        return list(dict.fromkeys(name for run in self.runs for name in run.metrics))

    def value(self, name: str, split: str | None = None) -> Value | None:
        """The metric of the test split, else of the validation split; None where there is none."""
        for one in SPLITS if split is None else (split,):
            found = [run.metric(name, one) for run in self.runs]
            values = [value for value in found if value is not None]
            if values:
                std = statistics.stdev(values) if len(values) > 1 else None
                return Value(statistics.fmean(values), std, len(values), one)
        return None

    @property
    def seconds(self) -> float | None:
        """The mean time of its runs."""
        known = [run.seconds for run in self.runs if run.seconds is not None]
        return statistics.fmean(known) if known else None


def folded(runs: Iterable[Listed]) -> list[Row]:
    """A row for each run, but one for all finished runs that differ by seed or fold alone.

    Of two runs with one seed only the newer counts, for the other is no second measurement.
    """
    groups: dict[object, list[Listed]] = defaultdict(list)
    for run in runs:
        groups[_setting(run) if run.status == "finished" else run.path].append(run)
    rows = []
    for members in groups.values():
        newest = {_repetition(run): run for run in reversed(members)}
        kept = [run for run in members if newest[_repetition(run)] is run]
        rows.append(Row(kept, len(members) - len(kept)))
    return rows


def _setting(run: Listed) -> object:
    left_out = ELSEWHERE | set(REPEATED)
    return frozenset((key, repr(v)) for key, v in run.config.items() if key not in left_out)


def _repetition(run: Listed) -> object:
    return tuple(repr(run.config.get(key)) for key in REPEATED)
