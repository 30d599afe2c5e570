"""Tables as JSON: an object a line, or a list of objects; their keys are the columns."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from dltrain.data.tables.cells import Cells
from dltrain.files import START, open_file, require_text, save_as_utf8

_GAP = re.compile(r"[\s,]*")


def read_json_lines(path: Path, texts: Collection[str] = ()) -> Cells:
    """Read UTF-8 lines, each a JSON object, or one list of such; no key or null: an empty cell.

    The columns ``texts`` hold texts, numbers or truth values, but no lists or objects. Raises
    ``ValueError`` naming file and line if it cannot be had or is not such a table.
    """
    rows: list[dict[str, str]] = []
    lines: list[int] = []
    try:
        with open_file(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    require_text(path, content[:START])
    for number, found in _objects(path, content):
        place = f"{path}, line {number}"
        if not isinstance(found, dict):
            raise ValueError(f"{place}: not an object with a key for each column")
        rows.append(
            {
                name: _cell(value, f"{place}, column {name!r}", name in texts)
                for name, value in found.items()
            }
        )
        lines.append(number)
    if not rows:
        raise ValueError(f"{path} has no line")
    names = dict.fromkeys(name for row in rows for name in row)
    return Cells(str(path), {name: [row.get(name, "") for row in rows] for name in names}, lines)


def _objects(path: Path, content: bytes) -> Iterator[tuple[int, Any]]:
    """Each value and the line that it begins on."""
    if (
        path.suffix.lower() == ".json"
        and content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["
    ):
        yield from _listed(path, content)
        return
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        try:
            yield number, json.loads(line.decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{place}, is not UTF-8 text: {save_as_utf8(path)}") from error
        except RecursionError as error:
            raise ValueError(f"{place}: nested too deeply") from error
        except ValueError as error:
            raise ValueError(
                f"{place}: not JSON ({error}); each line is to be one object"
            ) from error


def _listed(path: Path, content: bytes) -> Iterator[tuple[int, Any]]:
    """The items of a list that is the whole file."""
    try:
        text = content.decode("utf-8-sig")
        json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text: {save_as_utf8(path)}") from error
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    decoder, place, line = json.JSONDecoder(), text.index("[") + 1, 1
    read = 0
    while True:
        gap = _GAP.match(text, place)
        assert gap is not None
        if text[gap.end()] == "]":
            return
        line += text.count("\n", read, gap.end())
        read = gap.end()
        found, place = decoder.raw_decode(text, read)
        yield line, found


def _cell(value: Any, place: str, is_text: bool) -> str:
    if value is None:
        return ""
    if is_text and isinstance(value, (list, dict)):
        kind = "a list" if isinstance(value, list) else "an object"
        raise ValueError(f"{place}: {kind}, which is no text and no label")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: half of a surrogate pair, which is no character") from error
    return text.strip()
