"""Tab-separated texts, a row a line, where a quote is more often part of a text than around it."""

from __future__ import annotations

import re
from pathlib import Path

from dltrain.data.tables.cells import Cells

_QUOTED = re.compile(r'"(?:[^"]|"")*"')


def read_tab_lines(path: Path) -> Cells | None:
    """Read UTF-8 lines that all have as many cells as the first one, which names the columns.

    A cell that is quoted as a whole, its own quotes doubled, loses them; any other quote is text.
    By the rules of csv one such quote at a text's beginning would hide the rows up to the next.
    None where a line does not fit: such a table has cells of several lines, or is none at all.
    """
    try:
        content = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return None
    lines = content.replace("\r\n", "\n").split("\n")
    rows = [(n, line.split("\t")) for n, line in enumerate(lines, 1) if line.strip()]
    names = [name.strip() for name in rows[0][1]] if rows else []
    fits = len(rows) > 1 and all(len(row) == len(names) for _, row in rows)
    if not fits or rows[0][0] != 1 or not all(names) or len(set(names)) < len(names):
        return None
    columns = zip(*(row for _, row in rows[1:]), strict=True)
    cells = {
        name: [_cell(cell) for cell in column] for name, column in zip(names, columns, strict=True)
    }
    return Cells(str(path), cells, [number for number, _ in rows[1:]])


def _cell(cell: str) -> str:
    cell = cell.strip()
    return cell[1:-1].replace('""', '"').strip() if _QUOTED.fullmatch(cell) else cell
