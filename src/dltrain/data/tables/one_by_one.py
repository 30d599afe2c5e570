"""The rows of a table one by one, so that a table of any size needs little memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dltrain.data.tables.csv_text import open_csv
from dltrain.data.tables.files import EXCEL, JSON_LINES, PARQUET, batches_of, read_table
from dltrain.files import lines_of

SEPARATED = (".csv", ".tsv", ".tab")
JSON = (".json",)
ENDINGS = (*SEPARATED, *PARQUET, *JSON_LINES, *JSON, *EXCEL)
"""Of files that are tables."""
ROWS = 4096
"""Rows that are held at once."""


def is_frame(value: Any) -> bool:
    """Whether ``value`` is a data frame of pandas, polars or the like."""
    return hasattr(value, "columns") and (hasattr(value, "to_dict") or hasattr(value, "to_dicts"))


def rows_of(table: Any) -> Iterator[Mapping[str, Any]]:
    """Rows as mappings from column to cell, of a file, an open text file of csv or a data frame.

    A file's ending says what it is: .parquet, .jsonl, .json (a list of objects), .xlsx, else
    separated values, whose cells are texts. Raises :class:`ValueError` naming the file and the line
    of what is no table.
    """
    if hasattr(table, "readline"):
        with tempfile.NamedTemporaryFile("w", suffix=".csv", encoding="utf-8") as kept:
            for line in table:
                kept.write(line)
            kept.flush()
            try:
                yield from _separated(Path(kept.name))
            except ValueError as error:
                raise ValueError(str(error).replace(kept.name, "standard input")) from error
    elif is_frame(table):
        yield from table.to_dicts() if hasattr(table, "to_dicts") else _frame(table)
    else:
        yield from _file(Path(table))


def _file(path: Path) -> Iterator[Mapping[str, Any]]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"{path} {what}; a table is a file")
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        yield from _parquet(path)
    elif suffix in JSON_LINES:
        yield from _json_lines(path)
    elif suffix in JSON:
        yield from _json(path)
    elif suffix in EXCEL:
        found = read_table(path)
        names = list(found.columns)
        cells = (column.to_pylist() for column in found.columns.values())
        yield from (dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True))
    else:
        yield from _separated(path)


def _separated(path: Path) -> Iterator[Mapping[str, Any]]:
    text = open_csv(path, configured=False)
    names = text.header()
    for _, cells in text.rows():
        yield dict(zip(names, cells, strict=True))


def _frame(frame: Any) -> Iterator[Mapping[str, Any]]:
    for first in range(0, len(frame), ROWS):
        yield from frame.iloc[first : first + ROWS].to_dict("records")


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with pa.parquet.ParquetFile(path) as file:
            for batch in batches_of(file, ROWS):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no Parquet file that can be read: {error}") from error


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(lines_of(path), 1):
        if line.strip():
            yield _object(line, f"{path}, line {number}")


def _json(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        found = json.loads("\n".join(lines_of(path)))
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deeply") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    rows = found if isinstance(found, list) else [found]
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, element {number}: not an object, but {row!r}")
        yield row


def _object(line: str, place: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except RecursionError as error:
        raise ValueError(f"{place}: nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    if not isinstance(row, dict):
        raise ValueError(f"{place}: not an object, but {row!r}")
    return row
