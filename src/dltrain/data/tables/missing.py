"""Which rows of a table are used, where cells are missing."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dltrain.data.tables.parse import Numbers, Texts
from dltrain.data.tables.raw import RawTable
from dltrain.data.tables.values import CellFormat

logger = logging.getLogger(__name__)

SHOWN = 5
"""Cells whose words are told."""
FAR = 100_000
"""Rows beyond which a file is not read again for a word."""
Missing = Literal["refuse", "drop", "mean"]


def rows_to_use(
    table: RawTable,
    columns: Mapping[str, Numbers | Texts],
    target: str,
    missing: Missing,
    format: CellFormat,
    embedded: Sequence[str] = (),
) -> NDArray[np.int64]:
    """Refuse or drop rows with missing cells, or leave these to be filled; count them.

    A cell of a column of ``embedded`` is none of its levels then.
    Raises ``ValueError`` naming the first such cell, what it holds, and what can be done.
    """
    counts = {name: int(column.missing.sum()) for name, column in columns.items()}
    absent = np.zeros(table.rows, bool)
    for name, column in columns.items():
        if counts[name]:
            absent |= column.missing
    rows, first = int(absent.sum()), int(absent.argmax())
    if not rows:
        return np.arange(table.rows)
    if missing == "refuse":
        name = next(name for name, column in columns.items() if column.missing[first])
        place, advice = _found(table, first, name, format)
        raise ValueError(
            f"{place}, and {rows} rows have such cells. Set data.missing=drop or data.missing=mean"
            f"{advice}."
        )
    said = ", ".join(
        f"{count} in {name!r}{_words(table, name, columns[name].missing)}"
        for name, count in counts.items()
        if count
    )
    if missing == "drop":
        logger.warning("%s: %d rows with missing values dropped: %s.", table.name, rows, said)
        if rows == table.rows:
            empty = [name for name, count in counts.items() if count == table.rows]
            advice = f"; {empty[0]!r} is empty: data.exclude leaves it out" if empty else ""
            raise ValueError(f"{table.name}: every row has a missing value, none is left{advice}")
        return np.nonzero(~absent)[0]
    if counts[target]:
        row = int(columns[target].missing.argmax())
        place, advice = _found(table, row, target, format)
        raise ValueError(
            f"{place}, and a target cannot be filled with a mean. Set data.missing=drop{advice}."
        )
    indexed = [name for name in embedded if counts.get(name)]
    but = f" (of {', '.join(map(repr, indexed))}: none of the levels)" if indexed else ""
    logger.warning("%s: missing values filled with the mean%s: %s.", table.name, but, said)
    return np.arange(table.rows)


def _found(table: RawTable, row: int, name: str, format: CellFormat) -> tuple[str, str]:
    """Where a missing cell stands and why it is missing; and what to do if it is not."""
    word = table.text(row, name)
    if not word:
        return f"{table.place(row, name)} is empty", ""
    words = ", ".join(format.missing)
    return (
        f"{table.place(row, name)} counts as missing: it holds {word!r}",
        f". If {word!r} is a value, list what is missing, now data.missing_values=[{words}]; "
        "[] is empty cells alone",
    )


def _words(table: RawTable, name: str, absent: NDArray[np.bool_]) -> str:
    """What the missing cells of a column hold, where some of them hold a word."""
    first = np.nonzero(absent)[0][:SHOWN]
    words = dict.fromkeys(table.text(int(row), name) for row in first if row < FAR)
    return f" ({', '.join(map(repr, words))})" if any(words) else ""
