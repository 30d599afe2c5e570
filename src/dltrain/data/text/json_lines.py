"""Tables as JSON lines: each line an object, its keys the columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dltrain.data.tables.cells import Cells


def read_json_lines(path: Path) -> Cells:
    """Read a table of UTF-8 lines, each a JSON object; an absent key or null is an empty cell.

    Raises ``ValueError`` naming file and line if it cannot be had or is not such a table.
    """
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            rows.append(_row(line, f"{path}, line {number}"))
            lines.append(number)
    if not rows:
        raise ValueError(f"{path} has no line")
    names = dict.fromkeys(name for row in rows for name in row)
    return Cells(str(path), {name: [row.get(name, "") for row in rows] for name in names}, lines)


def _row(line: bytes, place: str) -> dict[str, str]:
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{place}, is not UTF-8 text: save it as UTF-8") from error
    except ValueError as error:
        raise ValueError(f"{place}: not JSON ({error}); each line is to be one object") from error
    if not isinstance(found, dict):
        raise ValueError(f"{place}: not an object with a key for each column")
    return {name: _cell(value, f"{place}, column {name!r}") for name, value in found.items()}


def _cell(value: Any, place: str) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: half of a surrogate pair, which is no character") from error
    return text.strip()
