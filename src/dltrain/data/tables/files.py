"""Tables in files, by the file's ending: csv, Parquet, JSON lines, Excel."""

from __future__ import annotations

import io
import json
import logging
import zipfile
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from dltrain.data.tables.csv_text import CsvText, open_csv
from dltrain.data.tables.raw import RawTable, usable
from dltrain.data.tables.values import CellFormat, clean
from dltrain.files import START, open_file, require_text, too_much

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

PARQUET = (".parquet", ".pq")
JSON_LINES = (".jsonl", ".ndjson")
EXCEL = (".xlsx", ".xlsm")
BLOCK = 1 << 20
"""Bytes that are parsed at once."""
SAMPLE = 64
"""Rows by which it is guessed which columns hold numbers."""
ROWS = 1 << 15
"""Rows that are gathered before they become columns."""
FEW, PART = 16, 1 << 25
"""Rows of Parquet that are read first, and bytes at once after that."""
DEEPEST = 500
"""Lists and objects within each other that are never too many."""
LONGEST = 1 << 20
"""Rows that a sheet can have."""


def read_table(
    path: Path,
    separator: str | None = None,
    encoding: str | None = None,
    format: CellFormat | None = None,
    texts: Collection[str] = (),
) -> RawTable:
    """Read a table; ``separator`` and ``encoding`` are of csv alone, as is what follows.

    With ``format`` columns of numbers may come as such, but for those of ``texts``.

    Raises ``ValueError`` naming the file, and where there are lines the line, that is no table.
    """
    suffix = path.suffix.lower()
    if suffix in PARQUET:
        table = _parquet(path)
    elif suffix in JSON_LINES:
        table = _json_lines(path)
    elif suffix in EXCEL:
        table = _excel(path)
    else:
        table = _csv(open_csv(path, separator, encoding), format, texts)
    if not table.rows:
        raise ValueError(f"{path} has a header but no row")
    return table


def _csv(text: CsvText, format: CellFormat | None, texts: Collection[str]) -> RawTable:
    names = text.header()
    if all(name and name.strip("+-").replace(".", "").isdigit() for name in names):
        logger.warning(
            "%s: its first line, which names the columns, holds numbers alone (%s …). Is it a "
            "row, and the names are missing?",
            *(text.path, ", ".join(names[:3])),
        )
    columns = _numbers_as_such(text, names, format, texts) if format is not None else None
    if columns is None:
        columns = _fast(text, [True] * len(names), format)
    if columns is None:
        columns = _strict(text, len(names))
    kept, left_out = usable(names, columns)

    def written(row: int, name: str) -> str:
        return next(islice(text.rows(), row, None))[1][names.index(name)].strip()

    return RawTable(
        *(str(text.path), len(columns[0]), kept, lambda row: f"line {text.line(row)}"),
        *(left_out, written),
    )


def _numbers_as_such(
    text: CsvText, names: Sequence[str], format: CellFormat, texts: Collection[str]
) -> list[pa.ChunkedArray] | None:
    """The columns; those whose first cells are numbers as numbers. None: not all of them are."""
    import pyarrow.compute as compute

    try:
        sample = [row for _, row in islice(text.rows(), SAMPLE)]
    except ValueError:
        return None
    if not sample or format.thousands:
        return None
    columns = list(zip(*sample, strict=True))
    as_text = [
        name in texts or not any(is_number(cell, format) for cell in cells)
        for name, cells in zip(names, columns, strict=True)
    ]
    found = _fast(text, as_text, format)
    if found is None or format.is_missing("nan"):
        return found
    for is_text, column in zip(as_text, found, strict=True):
        if not is_text and compute.any(compute.is_nan(column)).as_py():
            return None
    return found


def is_number(cell: str, format: CellFormat) -> bool:
    """Whether a cell holds a number, and not a word for none."""
    cell = clean(cell)
    return not format.is_missing(cell) and format.number(cell) is not None


def _fast(
    text: CsvText, as_text: Sequence[bool], format: CellFormat | None
) -> list[pa.ChunkedArray] | None:
    """All columns by pyarrow; None where the slower way is to say what is wrong."""
    import pyarrow as pa
    import pyarrow.csv

    if text.quotes.spaced or not (text.quotes.sound or _has_sound_quotes(text)):
        return None
    source: Path | io.BytesIO = text.path
    if text.encoding.lower() not in ("utf-8", "utf8", "utf-8-sig"):
        try:
            decoded = text.path.read_bytes().decode(text.encoding)
        except UnicodeError:
            return None
        source = io.BytesIO(decoded.encode())
    names = [str(position) for position in range(len(as_text))]
    types = {
        name: pa.string() if is_text else pa.float64()
        for name, is_text in zip(names, as_text, strict=True)
    }
    try:
        table = pa.csv.read_csv(
            source,
            pa.csv.ReadOptions(
                column_names=names,
                skip_rows=int(text.said),
                skip_rows_after_names=1,
                block_size=BLOCK,
            ),
            pa.csv.ParseOptions(
                delimiter=text.separator,
                newlines_in_values=text.quotes.multiline or not text.quotes.sound,
            ),
            pa.csv.ConvertOptions(
                column_types=types,
                null_values=format.spellings if format is not None else [],
                decimal_point=format.decimal if format is not None else ".",
            ),
        )
    except pa.ArrowInvalid:
        return None
    return list(table.columns)


def _has_sound_quotes(text: CsvText) -> bool:
    """Whether Python's strict reader, which refuses text behind a quoted cell, takes the file."""
    try:
        for _ in text.rows():
            pass
    except ValueError:
        return False
    return True


def _strict(text: CsvText, count: int) -> list[pa.ChunkedArray]:
    """The same by Python's own reader, which takes blanks before quotes and names lines."""
    import pyarrow as pa

    chunks: list[list[pa.Array]] = [[] for _ in range(count)]
    rows = (row for _, row in text.rows())
    while block := list(islice(rows, ROWS)):
        for chunk, cells in zip(chunks, zip(*block, strict=True), strict=True):
            chunk.append(pa.array(cells, pa.string()))
    return [pa.chunked_array(chunk, pa.string()) for chunk in chunks]


def _parquet(path: Path) -> RawTable:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        with open_file(path, "rb") as file:
            table = _within_limits(pa.parquet.ParquetFile(file), path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise ValueError(f"{path} is no Parquet file that can be read: {error}") from error
    # pandas keeps its row numbers so, where they are not just counted.
    names = ["" if name == "__index_level_0__" else name for name in table.column_names]
    kept, left_out = usable(names, table.columns)
    return RawTable(str(path), len(table), kept, lambda row: f"row {row + 1}", left_out)


def batches_of(file: pa.parquet.ParquetFile, most: int = ROWS) -> Iterator[pa.RecordBatch]:
    """A Parquet file in parts of about ``PART`` bytes and at ``most`` so many rows.

    How many rows that are is told by what the rows before took.
    """
    few = next(file.iter_batches(FEW), ())
    rows = _fitting(few, most)
    for group in range(file.num_row_groups):
        for batch in file.iter_batches(rows, [group]):
            yield batch
            rows = _fitting(batch, most)


def _fitting(batch: pa.RecordBatch | tuple[()], most: int) -> int:
    return max(1, min(most, PART * len(batch) // max(1, batch.nbytes))) if batch else most


def _within_limits(file: pa.parquet.ParquetFile, path: Path) -> pa.Table:
    """All of a Parquet file; in parts, for one value may stand there for a billion rows."""
    import pyarrow as pa

    size, read, batches = path.stat().st_size, 0, []
    _require_size(path, 8 * file.metadata.num_rows * file.metadata.num_columns, size)
    for batch in batches_of(file):
        read += batch.nbytes
        _require_size(path, read, size)
        batches.append(batch)
    return pa.Table.from_batches(batches, file.schema_arrow).unify_dictionaries()


def _require_size(path: Path, wanted: int, size: int) -> None:
    problem = too_much(wanted, size)
    if problem:
        raise ValueError(f"{path} {problem}: write it again without compression")


def require_shallow(path: Path) -> None:
    """Raise ``ValueError`` for no text, and naming a line nested so deep that parsers fall over."""
    with open_file(path, "rb") as file:
        require_text(path, file.read(START))
        file.seek(0)
        for number, line in enumerate(file, 1):
            if len(line) > DEEPEST and line.count(b"[") + line.count(b"{") > DEEPEST:
                try:
                    json.loads(line)
                except RecursionError as error:
                    raise ValueError(f"{path}, line {number}: nested too deeply") from error
                except ValueError:
                    continue  # the parser has better words


def _json_lines(path: Path) -> RawTable:
    import pyarrow as pa
    import pyarrow.json

    try:
        require_shallow(path)
        table = pa.json.read_json(path, pa.json.ReadOptions(block_size=BLOCK))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except pa.ArrowException as error:
        raise ValueError(
            f"{path} is no file of JSON lines, each an object whose values have one type a key: "
            f"{error}"
        ) from error
    kept, left_out = usable(table.column_names, table.columns)
    return RawTable(str(path), len(table), kept, lambda row: f"object {row + 1}", left_out)


def _excel(path: Path) -> RawTable:
    import pyarrow as pa

    try:
        import openpyxl
    except ImportError as error:
        raise ValueError(
            f"{path}: reading Excel needs openpyxl: pip install 'dltrain[excel]'"
        ) from error
    try:
        with open_file(path, "rb") as file, zipfile.ZipFile(file) as archive:
            _require_size(path, sum(e.file_size for e in archive.infolist()), path.stat().st_size)
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except ValueError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # of a damaged file, whatever its parts' readers raise
        raise ValueError(f"{path} is no Excel file that can be read: {error}") from error
    sheet = book.worksheets[0]
    sheet.reset_dimensions()  # else each row has as many cells as the file says, and all rows
    if len(book.worksheets) > 1:
        others = ", ".join(repr(other.title) for other in book.worksheets[1:])
        logger.warning("%s: its first sheet %r is read, not %s.", path, sheet.title, others)
    rows: Iterator[tuple[object, ...]] = sheet.iter_rows(values_only=True)
    names = ["" if name is None else str(name).strip() for name in next(rows, ())]
    if not any(names):
        raise ValueError(f"{path} is empty, or begins with an empty line")
    for position, name in enumerate(names):
        if name and name in names[:position]:
            raise ValueError(f"{path}, row 1: two columns are named {name!r}")
    try:
        found, wide = _filled(rows, path, len(names))
    except ValueError:
        raise
    except Exception as error:  # as above: a sheet is read as its rows are asked for
        raise ValueError(f"{path} is no Excel file that can be read: {error}") from error
    names += [""] * (wide - len(names))
    whole = ((*row, *[None] * (wide - len(row))) for _, row in found)
    columns = [_typed(cells) for cells in zip(*whole, strict=True)]
    columns = columns or [pa.chunked_array([], pa.null()) for _ in names]
    book.close()
    kept, left_out = usable(names, columns)
    lines = [line for line, _ in found]
    return RawTable(str(path), len(lines), kept, lambda row: f"row {lines[row]}", left_out)


def _filled(
    rows: Iterator[tuple[object, ...]], path: Path, wide: int
) -> tuple[list[tuple[int, tuple[object, ...]]], int]:
    """Rows that hold anything, each with its line and up to its last cell; and the widest's."""
    found: list[tuple[int, tuple[object, ...]]] = []
    for line, row in enumerate(rows, 2):
        if line > LONGEST:
            raise ValueError(f"{path} has more than {LONGEST:,} rows")
        filled = max((n for n, cell in enumerate(row, 1) if cell is not None), default=0)
        if filled:
            found.append((line, row[:filled]))
            wide = max(wide, filled)
            _require_size(path, 8 * wide * len(found), path.stat().st_size)
    return found, wide


def _typed(cells: tuple[object, ...]) -> pa.ChunkedArray:
    """A column of one type as that; of several as texts."""
    import pyarrow as pa

    try:
        return pa.chunked_array([pa.array(cells)])
    except pa.ArrowException:
        texts = [None if cell is None else str(cell) for cell in cells]
        return pa.chunked_array([pa.array(texts, pa.string())])
