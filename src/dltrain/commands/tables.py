"""Tables of plain text that fit the terminal, 80 columns in a pipe; no colors, so none to remove.

Rich would do this, but takes longer to be imported than all that a query does.
"""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dltrain.errors import printable_json, printable_lines

GAP = 2
NARROWEST = 8
"""Letters to which a column that may fold is narrowed."""


@dataclass(frozen=True)
class Column:
    """The name of a column; where its cells stand, and whether they may go over several lines."""

    name: str
    right: bool = False
    folds: bool = False


def screen_width() -> int:
    """Letters in a line of the terminal; 80 where there is none, or what COLUMNS says."""
    return max(40, shutil.get_terminal_size((80, 24)).columns)


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> None:
    """Print ``rows`` under the columns' names, within ``width`` letters if they can fold so far."""
    lines = [[column.name for column in columns], *rows]
    cells = [[plain(cell) for cell in line] for line in lines]
    widths = [max(map(letters, column)) for column in zip(*cells, strict=True)]
    while sum(widths) + GAP * (len(widths) - 1) > width:
        wide = [n for n, c in enumerate(columns) if c.folds and widths[n] > NARROWEST]
        if not wide:
            break
        widths[max(wide, key=lambda n: widths[n])] -= 1
    for row in cells:
        folded = [
            _folded(cell, widths[n]) if columns[n].folds else [cell] for n, cell in enumerate(row)
        ]
        for line in range(max(map(len, folded))):
            parts = [cell[line] if line < len(cell) else "" for cell in folded]
            padded = [
                " " * (widths[n] - letters(part)) + part
                if columns[n].right
                else part + " " * (widths[n] - letters(part))
                for n, part in enumerate(parts)
            ]
            print((" " * GAP).join(padded).rstrip())


def show_json(content: Any) -> None:
    """Print ``content`` for a program to read; see :func:`json_text`."""
    print(json_text(content, 2))


def json_text(content: Any, indent: int | None = None) -> str:
    """``content`` as JSON: a number that is not finite as a word, what moves a cursor escaped."""
    text = json.dumps(
        _in_words(content), indent=indent, ensure_ascii=False, allow_nan=False, default=str
    )
    return printable_json(text)


def _in_words(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {str(_in_words(key)): _in_words(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_in_words(value) for value in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content


def show_csv(rows: Iterable[Mapping[str, Any]], first: Sequence[str]) -> None:
    """Print ``rows`` under all keys that any of them has, ``first`` before all others."""
    rows = list(rows)
    names = list(dict.fromkeys([*first, *(name for row in rows for name in row)]))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(_as_cell, names))
    writer.writerows([_as_cell(row.get(name, "")) for name in names] for row in rows)


def _as_cell(value: Any) -> Any:
    return printable_lines(value) if isinstance(value, str) else value


def plain(text: str) -> str:
    """``text`` without what would move a terminal's cursor or change its colors."""
    return "".join(c if c.isprintable() else "?" for c in text)


def letters(text: str) -> int:
    """How many places of a terminal ``text`` takes: letters of some alphabets take two."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def near(origin: str) -> str:
    """A path as seen from here, where it is below; anything else as it is."""
    path = Path(origin)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else origin


def amount(value: float) -> str:
    """A number in a few letters: four places behind the point, or an exponent."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"


def duration(seconds: float) -> str:
    """A time as short as it can be read: ``4.2 s``, ``3 min``, ``1 h 02``."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02}"


def _folded(text: str, width: int) -> list[str]:
    """Lines of ``width`` letters; a word that is longer begins a line of its own."""
    lines = textwrap.wrap(text, width, break_on_hyphens=False, break_long_words=False)
    return [part for line in lines for part in textwrap.wrap(line, width)] or [""]
