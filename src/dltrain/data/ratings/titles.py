"""What items are called, where a file names them."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from dltrain.data.ratings.files import SEPARATORS, content_of

logger = logging.getLogger(__name__)


def read_titles(path: Path, items: Sequence[str], encoding: str | None = None) -> list[str]:
    """The title of each of ``items``; empty where the file has none.

    A line has the item and its title first, between ``::``, tabs, ``;``, ``|`` or commas. Raises
    ``ValueError`` where the file names none of the items.
    """
    lines = _text(path, encoding).splitlines()
    separator = next((mark for mark in SEPARATORS if lines and mark in lines[0]), None)
    if separator is None:
        raise ValueError(f"{path} has no item and title in a line, between tabs, | or so")
    found: dict[str, str] = {}
    for cells in _rows(lines, separator):
        if len(cells) > 1:
            found.setdefault(cells[0].strip(), cells[1].strip())
    titles = [found.get(item, "") for item in items]
    lacking = sum(not title for title in titles)
    if lacking == len(items):
        raise ValueError(
            f"{path} names none of the items; it begins with {lines[0][:40]!r}, and an "
            f"item is {items[0]!r}"
        )
    if lacking:
        logger.warning("%s: %s of %s items have no title.", path, f"{lacking:,}", f"{len(items):,}")
    return titles


def _text(path: Path, encoding: str | None) -> str:
    content = content_of(path)
    if encoding is not None:
        return content.decode(encoding)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        logger.info("%s is no UTF-8 text: it is read as latin-1.", path)
        return content.decode("latin-1")


def _rows(lines: Sequence[str], separator: str) -> Iterator[list[str]]:
    if separator in ("::", "|"):
        return (line.split(separator) for line in lines)
    return csv.reader(lines, delimiter=separator)
