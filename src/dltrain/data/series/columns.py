"""The columns of a table of series: which holds the times, and which are numbers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dltrain.data.series.steps import Unit
from dltrain.data.tables.dates import date_format, parse_dates
from dltrain.data.tables.deciding import READINGS
from dltrain.data.tables.parse import Numbers, Texts, parse, parse_texts
from dltrain.data.tables.raw import RawTable
from dltrain.data.tables.values import CellFormat

logger = logging.getLogger(__name__)

NAMED = 5
"""Columns that a message names."""


def time_column(table: RawTable, format: CellFormat, wanted: str | None) -> str:
    """The column of times: the one that is ``wanted``, else the only one that holds dates.

    Raises ValueError where there is none, or several.
    """
    if wanted is not None:
        table.require(wanted)
        return wanted
    found = [name for name in table.columns if _holds_dates(table, format, name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{table.name} has several columns of dates, {', '.join(found)}: data.time says which "
            "one orders the rows"
        )
    raise ValueError(
        f"{table.name} has no column of dates among {_some(list(table.columns))}. data.time=COLUMN "
        "names one, of whole numbers, too; data.by_row=true takes each row for a step"
    )


def times_of(
    table: RawTable, column: str, format: CellFormat, date_form: str | None
) -> tuple[NDArray[np.int64], Unit]:
    """Each row's point in time (rows,), and what it counts.

    Raises ValueError naming the first cell that holds none.
    """
    place = partial(table.place, column=column)
    cells = table.columns[column]
    numbers = None if _is_date_type(cells) else parse(cells, format, place, as_text=False)
    if isinstance(numbers, Numbers):
        absent, off = numbers.missing, numbers.values % 1 != 0
        if not absent.all():
            for wrong, what in ((absent, "is empty"), (off, "is no whole number and no date")):
                if wrong.any():
                    raise ValueError(f"{place(int(wrong.argmax()))} {what}: it says no time")
            return numbers.values.astype(np.int64), "number"
    texts = parse_texts(cells, format)
    if texts.missing.any():
        raise ValueError(f"{place(int(texts.missing.argmax()))} is empty: it says no time")
    form = date_form or date_format(texts.levels)
    if form is None:
        text, row = _no_date(texts)
        raise ValueError(
            f"{place(row)}: {text!r} is no date as the others are; data.date_format says how they "
            "are written, such as %d.%m.%Y"
        )
    dates = parse_dates(texts.levels, form)
    if np.isnat(dates).any():
        level = texts.levels[int(np.isnat(dates).argmax())]
        raise ValueError(f"{place(texts.first({level}))}: {level!r} is no date of {form}")
    if any(_has_offset(level) for level in texts.levels):
        logger.info("%s: the times of %r are read as UTC, by their offsets.", table.name, column)
    return dates.astype(np.int64)[texts.codes], "microsecond"


def values_of(table: RawTable, columns: Sequence[str], format: CellFormat) -> NDArray[np.float64]:
    """The numbers of ``columns`` (rows, columns); NaN where a cell is empty.

    Raises ValueError naming the first cell that holds a text.
    """
    found = np.empty((table.rows, len(columns)))
    for number, name in enumerate(columns):
        place = partial(table.place, column=name)
        values = parse(table.columns[name], format, place, as_text=False)
        if isinstance(values, Texts):
            row = int((values.codes >= 0).argmax())
            for code, level in enumerate(values.levels):
                if format.number(level) is None:
                    row = int((values.codes == code).argmax())
                    break
            marks = next(
                (
                    said
                    for said, other in READINGS.items()
                    if other.uses_its_marks(values.levels)
                    and all(other.number(level) is not None for level in values.levels)
                ),
                None,
            )
            hint = f"data.exclude=[{name}] leaves the column out"
            raise ValueError(
                f"{place(row)}: {values.levels[values.codes[row]]!r} is no number; "
                + (hint if marks is None else f"all of the column may have {marks}")
            )
        if values.missing.all():
            raise ValueError(
                f"{table.name}: column {name!r} has no value; data.exclude=[{name}] leaves it out"
            )
        found[:, number] = values.values
    return found


def _holds_dates(table: RawTable, format: CellFormat, name: str) -> bool:
    cells = table.columns[name]
    if _is_date_type(cells):
        return True
    if isinstance(parse(cells.slice(0, 1), format, str, as_text=False), Numbers):
        return False  # the first cell tells, and costs nothing
    texts = parse_texts(cells.slice(0, 1), format)
    try:
        return date_format(texts.levels) is not None
    except ValueError:  # of day and month either may be first
        return True


def _is_date_type(cells: Any) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_date(cells.type) or kinds.is_timestamp(cells.type))


def _no_date(texts: Texts) -> tuple[str, int]:
    """The first text that is no date, or is written as the first is not."""
    for level in texts.levels:
        if date_format([texts.levels[0], level]) is None:
            return level, texts.first({level})
    return texts.levels[0], 0


def _has_offset(text: str) -> bool:
    tail = text[10:]
    return tail.endswith("Z") or "+" in tail or "-" in tail


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if names[NAMED:] else "")
