"""Tab-separated texts, a row a line, where a quote is more often part of a text than around it."""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from dltrain.data.tables.cells import Cells
from dltrain.files import read_text, say_encoding

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def read_tab_lines(
    path: Path, header: Sequence[str] | None = None, encoding: str | None = None
) -> Cells | None:
    """Read lines that all have as many cells as the first one, which names the columns.

    Without ``encoding`` they are UTF-8. ``header`` are their names where the file has none; there
    the first line is a row, too, and ``ValueError`` names what keeps the file from being read.
    A cell that is quoted as a whole, its own quotes doubled, loses them; any other quote is text.
    By the rules of csv one such quote at a text's beginning would hide the rows up to the next.
    None where a line does not fit: such a table has cells of several lines, or is none at all.
    """
    try:
        named = codecs.lookup(encoding or "utf-8").name
        content = read_text(path, encoding="utf-8-sig" if named == "utf-8" else named)
    except (OSError, UnicodeError, LookupError) as error:
        if header is None:
            return None
        raise ValueError(f"{path} cannot be read: {_told(path, encoding, error)}") from error
    if "\0" in content:
        if header is None:
            return None
        line = content[: content.index("\0")].count("\n") + 1
        raise ValueError(f"{path}, line {line}, has a NUL byte: this is no text")
    ends = "\n" if "\n" in content else "\r"  # of files of old Macs
    lines = content.replace("\r\n", "\n").split(ends)
    rows = [(n, line.split("\t")) for n, line in enumerate(lines, 1) if line.strip()]
    if header is not None:
        return _under(header, path, rows)
    names = [name.strip() for name in rows[0][1]] if rows else []
    fits = len(rows) > 1 and all(len(row) == len(names) for _, row in rows)
    if not fits or rows[0][0] != 1 or not all(names) or len(set(names)) < len(names):
        return None
    return _cells(names, path, rows[1:])


def _told(path: Path, encoding: str | None, error: Exception) -> str | None:
    if isinstance(error, OSError):
        return error.strerror
    if isinstance(error, LookupError):
        return f"Python knows no encoding {encoding!r}, try utf-8, gb18030, cp1252, utf-16"
    return f"it is no {(encoding or 'utf-8').upper()} text: {say_encoding(path)}"


def _under(header: Sequence[str], path: Path, rows: Sequence[tuple[int, list[str]]]) -> Cells:
    for number, row in rows:
        if len(row) != len(header):
            raise ValueError(
                f"{path}, line {number} has {len(row)} cells, and header names {len(header)}: "
                f"{', '.join(header)}"
            )
    if not rows:
        raise ValueError(f"{path} is empty")
    return _cells(header, path, rows)


def _cells(names: Sequence[str], path: Path, rows: Sequence[tuple[int, list[str]]]) -> Cells:
    columns = zip(*(row for _, row in rows), strict=True)
    cells = {
        name: [_cell(cell) for cell in column] for name, column in zip(names, columns, strict=True)
    }
    return Cells(str(path), cells, [number for number, _ in rows])


def _cell(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].replace('""', '"').strip() if _QUOTED.fullmatch(cell) else cell
