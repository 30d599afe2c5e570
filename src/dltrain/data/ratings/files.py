"""Files of ratings: a user, an item, mostly a value and a time in each row."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dltrain.data.ratings.interactions import Interactions
from dltrain.data.tables.files import EXCEL, JSON_LINES, PARQUET, read_table
from dltrain.data.tables.parse import Numbers, parse, parse_texts
from dltrain.data.tables.raw import RawTable
from dltrain.data.tables.values import CellFormat
from dltrain.files import START, read_bytes, require_text

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

USER, ITEM, VALUE, TIME = ROLES = ("user", "item", "value", "time")
USUAL = {
    USER: ("user", "userid", "uid", "username", "reviewerid", "customerid"),
    ITEM: ("item", "itemid", "iid", "movie", "movieid", "isbn", "asin", "productid", "bookid"),
    VALUE: ("value", "rating", "score", "stars", "bookrating", "overall"),
    TIME: ("time", "timestamp", "unixreviewtime", "date", "datetime"),
}
"""What such columns are mostly called, in small letters without marks."""
TYPED = (*PARQUET, *JSON_LINES, *EXCEL)
SEPARATORS = ("::", "\t", ";", "|", ",")
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
FORMAT = CellFormat()


@dataclass(frozen=True)
class Columns:
    """Which columns are read, None: those that are called as usual, and how a file is parsed.

    ``header`` names the columns of files that do not. ``valued`` False: no values are needed.
    """

    names: Mapping[str, str | None]
    header: Sequence[str] | None = None
    separator: str | None = None
    encoding: str | None = None
    missing: str = "refuse"
    valued: bool = True


def read_ratings(path: Path, columns: Columns) -> Interactions:
    """The rows of a file. Raises ``ValueError`` naming file and row of what cannot be used."""
    table = _table(path, columns)
    chosen = {role: _chosen(table, role, columns) for role in ROLES}
    users, items = (parse_texts(table.columns[_given(chosen[r])], FORMAT) for r in (USER, ITEM))
    values = _numbers(table, chosen[VALUE], "values")
    times = _times(table, chosen[TIME])
    lacking = users.missing | items.missing
    for column in (values, times):
        if column is not None:
            lacking = lacking | np.isnan(column)
    found = Interactions(
        table.name, users.codes, users.levels, items.codes, items.levels, values, times,
        np.arange(table.rows), table.locate,
    )  # fmt: skip
    if not lacking.any():
        return found
    first = table.locate(int(lacking.argmax()))
    if columns.missing == "refuse":
        raise ValueError(
            f"{path}, {first} lacks a user, an item, a value or a time, as do {lacking.sum():,} of "
            f"{table.rows:,} rows; data.missing=drop leaves them out"
        )
    if lacking.all():
        raise ValueError(f"{path}: every row lacks a user, an item, a value or a time")
    logger.warning(
        "%s: %s of %s rows lack a user, an item, a value or a time and are left out, the first of "
        "them on %s.",
        *(path, f"{lacking.sum():,}", f"{table.rows:,}", first),
    )
    return found.only(~lacking)


def _table(path: Path, columns: Columns) -> RawTable:
    if path.suffix.lower() in TYPED:
        return read_table(path)
    first = _first_line(path, columns.encoding)
    separator = columns.separator or next((mark for mark in SEPARATORS if mark in first), None)
    cells = [cell.strip() for cell in first.split(separator)] if separator else [first.strip()]
    header = columns.header
    if header is None and all(NUMBER.fullmatch(cell) for cell in cells):
        header = ROLES[: len(cells)]
        if len(cells) < 2 or len(cells) > len(ROLES):
            raise ValueError(
                f"{path} does not name its columns, and its first line has {len(cells)} cells: "
                "give their names as data.header=[user,item,value,time]"
            )
        logger.info("%s: it names no columns: they are %s.", path.name, ", ".join(header))
    if header is None and separator != "::":
        return read_table(path, columns.separator, columns.encoding)
    return _without_header(path, separator or ",", columns.encoding, header or cells, header)


def content_of(path: Path) -> bytes:
    """All bytes of a file. Raises ``ValueError`` where it cannot be read, or is empty."""
    try:
        content = read_bytes(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if not content.strip():
        raise ValueError(f"{path} is empty")
    require_text(path, content[:START])
    return content


def _first_line(path: Path, encoding: str | None) -> str:
    content = content_of(path)
    return content.split(b"\n", 1)[0].decode(encoding or "utf-8-sig", "replace").rstrip("\r")


def _without_header(
    path: Path, separator: str, encoding: str | None, names: Sequence[str], given: Any
) -> RawTable:
    """A table of texts whose columns are called ``names``; the first line is a row if ``given``."""
    import pyarrow as pa
    import pyarrow.csv

    content = content_of(path).removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content:
        raise ValueError(f"{path} has a NUL byte: this is no text")
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line} is no UTF-8 text; give its data.encoding") from error
    if len(separator) > 1:  # of which pyarrow knows nothing
        text = text.replace(separator, "\t")
        separator = "\t"
    skipped = 0 if given else 1
    try:
        table = pa.csv.read_csv(
            io.BytesIO(text.encode()),
            pa.csv.ReadOptions(column_names=list(names), skip_rows=skipped),
            pa.csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except pa.ArrowInvalid as error:
        lines = text.splitlines()
        wrong = (n for n, line in enumerate(lines, 1) if line.count(separator) != len(names) - 1)
        number = next(wrong, None)
        if number is None:
            raise ValueError(f"{path} is no table: {error}") from error
        cells = lines[number - 1].count(separator) + 1
        raise ValueError(
            f"{path}, line {number} has {cells} cells, and there are {len(names)} columns: "
            f"{', '.join(names)}"
        ) from error
    if not len(table):
        raise ValueError(f"{path} has a header but no row")
    kept = dict(zip(names, table.columns, strict=True))
    return RawTable(str(path), len(table), kept, lambda row: f"line {row + 1 + skipped}")


def _chosen(table: RawTable, role: str, columns: Columns) -> str | None:
    """The column for a role; None where there is none and none is needed."""
    name = columns.names.get(role)
    if name is not None:
        table.require(name)
        return name
    usual = USUAL[role]
    found = [c for c in table.columns if re.sub(r"[\W_]", "", c).casefold() in usual]
    if len(found) > 1:
        raise ValueError(
            f"{table.name}: {' and '.join(map(repr, found))} may both be the column of the {role}: "
            f"data.{role}=NAME says which"
        )
    if found:
        return found[0]
    if role == TIME or (role == VALUE and not columns.valued):
        return None
    hint = "; task=ranking learns without values" if role == VALUE else ""
    if columns.header is None:
        hint += ". If these are a row: data.header=[user,item,value,time] names the columns"
    raise ValueError(
        f"{table.name} has no column for the {role} that is called as usual: data.{role}=NAME says "
        f"which; it has {', '.join(table.columns)}{hint}"
    )


def _given(name: str | None) -> str:
    assert name is not None
    return name


def _numbers(table: RawTable, name: str | None, what: str) -> NDArray[np.float64] | None:
    if name is None:
        return None

    def place(row: int) -> str:
        return table.place(row, name)

    column = table.columns[name]
    found = parse(column, FORMAT, place, as_text=False)
    if isinstance(found, Numbers):
        return found.values
    row = _first_text(column)
    raise ValueError(f"{place(row)}: {str(column[row])!r} is no number, and these are {what}")


def _first_text(column: pa.ChunkedArray) -> int:
    for row, cell in enumerate(column.to_pylist()):
        if isinstance(cell, str):
            text = cell.strip()
            if not FORMAT.is_missing(text) and FORMAT.number(text) is None:
                return row
    return 0


def _times(table: RawTable, name: str | None) -> NDArray[np.float64] | None:
    """Numbers, or points in time as ISO 8601 writes them, as seconds."""
    import pyarrow as pa
    import pyarrow.types as kinds

    if name is None:
        return None
    column = table.columns[name]
    try:
        if kinds.is_timestamp(column.type) or kinds.is_date(column.type):
            return _seconds(column)
        return _numbers(table, name, "times")
    except ValueError as error:
        try:
            return _seconds(column)
        except pa.ArrowInvalid:
            said = str(error).replace("these are times", "it is no time as in 2026-11-26 15:00")
            raise ValueError(f"{said}; another column: data.time=NAME") from error


def _seconds(column: pa.ChunkedArray) -> NDArray[np.float64]:
    import pyarrow as pa

    numbers = column.cast(pa.timestamp("us")).cast(pa.int64()).cast(pa.float64(), safe=False)
    return np.asarray(numbers.to_numpy(), np.float64) / 1e6
