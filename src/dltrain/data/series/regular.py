"""Rows of a file as steps of a regular grid: in order, each once, and none missing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dltrain.data.series.columns import time_column, times_of, values_of
from dltrain.data.series.steps import Step, Unit, step_of, written
from dltrain.data.tables.raw import RawTable
from dltrain.data.tables.values import CellFormat

logger = logging.getLogger(__name__)

Gaps = Literal["refuse", "fill", "split"]
Duplicates = Literal["refuse", "first", "last", "mean"]
ROW: Unit = "row"


@dataclass(frozen=True)
class Rules:
    """What to do with rows that do not lie as the steps of a series should.

    ``time`` is the column of times (None: the only one of dates), or each row is a step
    (``by_row``). ``sort`` puts rows in order. Of rows of one time, ``duplicates`` takes the first,
    the last or the mean. Steps that are missing, and cells that are empty, are ``gaps``: a history
    may have the last value before them (``fill``), or no window spans one (``split``).
    """

    time: str | None = None
    by_row: bool = False
    date_format: str | None = None
    sort: bool = False
    duplicates: Duplicates = "refuse"
    gaps: Gaps = "refuse"
    format: CellFormat = field(default_factory=CellFormat)


@dataclass(frozen=True)
class Series:
    """``values`` (steps, series) float64 at ``times`` (steps,) int64, one ``step`` apart.

    ``real`` (steps,) is false where a value was missing; there stands the last one before it.
    """

    name: str
    values: NDArray[np.float64]
    times: NDArray[np.int64]
    real: NDArray[np.bool_]
    step: Step

    def __len__(self) -> int:
        return len(self.times)

    def when(self, place: int) -> Any:
        """The time of a step, as a person reads it."""
        return written([int(self.times[place])], self.step.unit)[0]


def time_of(table: RawTable, rules: Rules) -> str | None:
    """The column of times; None where rows are steps."""
    return None if rules.by_row else time_column(table, rules.format, rules.time)


def regular(
    table: RawTable, columns: Sequence[str], rules: Rules, step: Step | None = None
) -> Series:
    """The series of ``columns``. ``step`` is what is known of it; else most rows say it.

    Raises ValueError naming file and line of what does not fit, and what would allow it.
    """
    values = values_of(table, columns, rules.format)
    rows = np.arange(table.rows)
    column = time_of(table, rules)
    times, unit = np.arange(1, table.rows + 1, dtype=np.int64), ROW
    if column is not None:
        times, unit = times_of(table, column, rules.format, rules.date_format)
    times, rows = _ordered(table, times, rows, rules)
    values = values[rows]
    times, rows, values = _once(table, times, rows, values, rules)
    if step is None and len(times) < 2:
        raise ValueError(f"{table.name} has {len(times)} point in time: a series has two at least")
    step = step or step_of(times, unit)
    if step.unit != unit and {step.unit, unit} != {"month", "microsecond"}:
        raise ValueError(f"{table.name} counts time by {unit}s, not by {step.unit}s")
    places = _placed(table, times, rows, step)
    return _filled(table, columns, rules, step, (times, rows, values, places))


def _ordered(
    table: RawTable, times: NDArray[np.int64], rows: NDArray[Any], rules: Rules
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    back = np.diff(times) < 0
    if not back.any():
        return times, rows
    row = int(back.argmax()) + 1
    if not rules.sort:
        count = int(back.sum())
        also = f", and so in {count:,} rows" if count > 1 else ""
        raise ValueError(
            f"{table.name}, {table.locate(row)}: its time is before that of the row above{also}; "
            "data.sort=true puts the rows in order"
        )
    logger.warning(
        "%s: %s rows were earlier than the row above; all are sorted by time.",
        *(table.name, f"{int(back.sum()):,}"),
    )
    order = np.argsort(times, kind="stable")
    return times[order], rows[order]


def _once(
    table: RawTable,
    times: NDArray[np.int64],
    rows: NDArray[Any],
    values: NDArray[np.float64],
    rules: Rules,
) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64]]:
    again = np.append(False, np.diff(times) == 0)
    count = int(again.sum())
    if not count:
        return times, rows, values
    row = int(again.argmax())
    if rules.duplicates == "refuse":
        raise ValueError(
            f"{table.name}, {table.locate(int(rows[row]))}: a second row of one time, as "
            f"{count:,} rows are; data.duplicates=first, last or mean says which value counts"
        )
    logger.warning(
        "%s: %s rows have the time of another row; of each time the %s counts.",
        *(table.name, f"{count:,}", rules.duplicates),
    )
    firsts = np.flatnonzero(~again)
    if rules.duplicates == "mean":
        known = ~np.isnan(values)
        counts = np.add.reduceat(known, firsts, dtype=np.int64)
        sums = np.add.reduceat(np.where(known, values, 0.0), firsts)
        return times[firsts], rows[firsts], np.where(counts, sums / np.maximum(counts, 1), np.nan)
    chosen = firsts if rules.duplicates == "first" else np.append(firsts[1:], len(times)) - 1
    return times[firsts], rows[chosen], values[chosen]


def _placed(
    table: RawTable, times: NDArray[np.int64], rows: NDArray[Any], step: Step
) -> NDArray[np.int64]:
    """Which step each row is."""
    places = step.places(times)
    off = ~(places % 1 == 0)
    if off.any():
        row = int(off.argmax())
        shown = written([int(times[row])], step.unit)[0]
        raise ValueError(
            f"{table.name}, {table.locate(int(rows[row]))}: the series has a value each {step}, "
            f"and {shown} is none of these times, as {int(off.sum()):,} rows; bring it to even "
            "steps first, or data.by_row=true takes each row for a step"
        )
    return places.astype(np.int64)


def _filled(
    table: RawTable,
    columns: Sequence[str],
    rules: Rules,
    step: Step,
    found: tuple[NDArray[np.int64], NDArray[Any], NDArray[np.float64], NDArray[np.int64]],
) -> Series:
    times, rows, values, places = found
    steps = int(places[-1]) + 1
    missing, empty = steps - len(places), int(np.isnan(values).sum())
    if missing and (rules.gaps == "refuse" or missing > len(places)):
        gap = int((np.diff(places) > 1).argmax())
        between = " … ".join(str(t) for t in written(times[gap : gap + 2].tolist(), step.unit))
        raise ValueError(
            f"{table.name}, {table.locate(int(rows[gap + 1]))}: steps are missing before it "
            f"({between}), {missing:,} in all where {len(places):,} are there"
            + (_switch() if missing <= len(places) else ": are these times right?")
        )
    if empty and rules.gaps == "refuse":
        row, column = (int(n) for n in np.argwhere(np.isnan(values))[0])
        raise ValueError(
            f"{table.place(int(rows[row]), columns[column])} is empty, one of {empty:,} such cells"
            + _switch()
        )
    grid = np.full((steps, values.shape[1]), np.nan)
    grid[places] = values
    real = ~np.isnan(grid).any(1)
    begin = int((~np.isnan(grid)).argmax(0).max())  # before it some series has no value yet
    grid, real = _last_known(grid)[begin:], real[begin:]
    grid_times = np.append(times[:1], step.after(int(times[0]), steps - 1))[begin:]
    if missing or empty:
        told = "stand as the last value before, in histories alone"
        logger.warning(
            "%s: %s steps are missing and %s cells are empty (%.1f %% of all); %s%s.",
            *(table.name, f"{missing:,}", f"{empty:,}", 100 * (1 - real.mean())),
            told if rules.gaps == "fill" else "no window has one of them",
            f"; {begin:,} steps at the beginning are left out" if begin else "",
        )
    return Series(table.name, grid, grid_times, real, step)


def _switch() -> str:
    return (
        ". data.gaps=fill lets a history have the last value before, data.gaps=split leaves out "
        "windows with a gap"
    )


def _last_known(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each NaN as the last value above it."""
    known = np.where(np.isnan(grid), 0, np.arange(len(grid))[:, None])
    return np.take_along_axis(grid, np.maximum.accumulate(known), 0)
