"""Separated values as they lie in a file: encoding, separator, header, rows."""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO

import numpy as np

from dltrain.data.tables.cells import Cells, full_width
from dltrain.files import START, open_file, require_text, save_as_utf8, say_encoding

logger = logging.getLogger(__name__)

SEPARATORS = {".tsv": "\t", ".tab": "\t"}
"""By the file's ending; a comma for any other, unless the first lines say something else."""
NAMED = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "\\t": "\t"}
"""What is awkward to type."""
LONGEST_CELL = 2**31 - 1
"""In characters."""
SNIFFED = 50
"""Lines that are looked at to find the separator."""
BLOCK = 1 << 16
"""Bytes that are searched at once; larger pieces of memory are asked of the system each time."""
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks; the longer ones first."""


@dataclass(frozen=True)
class Quotes:
    """Whether a blank stands before some, all stand at a cell's ends, cells go over lines."""

    spaced: bool = False
    sound: bool = True
    multiline: bool = False


@dataclass(frozen=True)
class CsvText:
    """A file of separated values whose first row names the columns; quoted cells may span lines.

    ``said`` is whether its first line is Excel's ``sep=;``; ``configured``, whether who is told of
    a mistake may set ``data.encoding``.
    """

    path: Path
    encoding: str
    separator: str
    said: bool = False
    quotes: Quotes = Quotes()
    configured: bool = True

    def header(self) -> list[str]:
        """The columns' names, stripped; empty where a column has none."""
        names = [name.strip() for name in next((row for _, row in self._lines()), [])]
        if not names:
            raise ValueError(f"{self.path} is empty, or begins with an empty line")
        for position, name in enumerate(names):
            if name and name in names[:position]:
                raise ValueError(f"{self.path}, line 1: two columns are named {name!r}")
        return names

    def rows(self) -> Iterator[tuple[int, list[str]]]:
        """The line that each row begins on, and its cells.

        Raises ``ValueError`` naming the line that is no row of the table.
        """
        names = self.header()
        lines = self._lines()
        next(lines)
        for begins, row in lines:
            if row and len(row) != len(names):
                raise ValueError(
                    f"{self.path}, line {begins}: {len(row)} cells, but the header names "
                    f"{len(names)} columns." + full_width(names)
                )
            if row:
                yield begins, row

    def line(self, row: int) -> int:
        """The line that row number ``row``, from 0, begins on."""
        return next(begins for position, (begins, _) in enumerate(self.rows()) if position == row)

    def _lines(self) -> Iterator[tuple[int, list[str]]]:
        # The module's own limit of 131,072 characters is less than a long text's.
        csv.field_size_limit(LONGEST_CELL)
        with _opened(self.path, self.encoding) as file:
            if self.said:
                file.readline()
            reader = csv.reader(
                file, delimiter=self.separator, strict=True, skipinitialspace=self.quotes.spaced
            )
            begins = 1 + self.said
            try:
                for row in reader:
                    yield begins, row
                    begins = reader.line_num + 1 + self.said
            except csv.Error as error:
                line = reader.line_num + self.said
                raise ValueError(f"{self.path}, line {line}: {error}") from error
            except UnicodeError as error:
                told = say_encoding(self.path) if self.configured else save_as_utf8(self.path)
                raise ValueError(
                    f"{self.path}, line {_undecodable(self.path, self.encoding)}, is not "
                    f"{self.encoding.removesuffix('-sig').upper()} text: {told}"
                ) from error


UTF_16 = "data.encoding=utf-16-le or utf-16-be"


def open_csv(
    path: Path,
    separator: str | None = None,
    encoding: str | None = None,
    configured: bool = True,
) -> CsvText:
    """Look at a file's beginning, and at where its quotes stand.

    Without ``separator`` it is the one that parts all of the first lines into the most columns;
    without ``encoding`` a byte order mark tells, else it is UTF-8. ``configured`` as in
    :class:`CsvText`. Raises ``ValueError``.
    """
    try:
        with open_file(path, "rb") as file:
            start = file.read(START)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    require_text(path, start)
    marked = next((name for mark, name in MARKS.items() if start.startswith(mark)), None)
    if encoding is None and marked is None and b"\0" in start[:4]:
        raise ValueError(
            f"{path} begins with a zero byte: it is no text of UTF-8"
            + (". Of UTF-16 without a byte order mark, say " + UTF_16 if configured else "")
        )
    found = marked or encoding or "utf-8"
    try:
        "".encode(found)  # which also refuses what is no encoding of texts, such as base64
    except LookupError as error:
        raise ValueError(
            f"encoding: Python knows no {found!r}, try utf-8, cp1252, utf-16"
        ) from error
    with _opened(path, found) as text:
        try:
            lines = [line for _, line in zip(range(SNIFFED), text, strict=False)]
        except UnicodeError:
            lines = []  # said with its line when it is read
    said = re.match(r'"?sep=(.)"?\r?\n', lines[0]) if lines else None
    if said is not None:
        lines = lines[1:]
    if separator is None:
        usual = said[1] if said is not None else SEPARATORS.get(path.suffix.lower(), ",")
        separator = usual if said is not None else _sniffed(lines, usual)
        if separator != usual:
            logger.info(
                "%s: its separator is %s%s.",
                path,
                {v: k for k, v in NAMED.items() if k != "\\t"}[separator],
                " (data.separator sets another)" if configured else "",
            )
    separator = NAMED.get(separator, separator)
    if len(separator) != 1 or separator in '\r\n"' or not separator.isascii():
        raise ValueError(
            f"separator is one ASCII character, or one of {', '.join(NAMED)}; got {separator!r}"
        )
    quotes = _quotes_in(_without_nul(path, _blocks(path, found)), separator)
    return CsvText(path, found, separator, said is not None, quotes, configured)


def read_csv(
    path: Path,
    separator: str | None = None,
    encoding: str | None = None,
    configured: bool = False,
) -> Cells:
    """Read a table as texts; ``configured`` as in :class:`CsvText`.

    Raises ``ValueError`` naming file and line if it cannot be had or is not a table.
    """
    text = open_csv(path, separator, encoding, configured or encoding is not None)
    names = text.header()
    for position, name in enumerate(names):
        if not name:
            raise ValueError(f"{path}, line 1: column {position + 1} has no name")
    found = list(text.rows())
    if not found:
        raise ValueError(f"{path} has a header but no row")
    columns = zip(*(row for _, row in found), strict=True)
    cells = {
        name: [cell.strip() for cell in column] for name, column in zip(names, columns, strict=True)
    }
    return Cells(str(path), cells, [line for line, _ in found])


def _opened(path: Path, encoding: str) -> IO[str]:
    # Where nobody named an encoding, a mark that was not written is no fault.
    name = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    return path.open(encoding=name, newline="")


def _sniffed(lines: list[str], usual: str) -> str:
    """The separator that parts every line into as many cells as the first, and into the most."""
    best, columns = usual, 1
    fallback = usual
    for separator in (usual, *(mark for mark in ",;\t|" if mark != usual)):
        try:
            rows = list(csv.reader(io.StringIO("".join(lines), newline=""), delimiter=separator))
        except csv.Error:
            continue
        counts = {len(row) for row in (rows if len(lines) < SNIFFED else rows[:-1]) if row}
        if len(counts) == 1 and max(counts) > columns:
            best, columns = separator, max(counts)
        if rows and fallback == usual and usual not in lines[0] and len(rows[0]) > 1:
            fallback = separator
    return best if columns > 1 else fallback


def _blocks(path: Path, encoding: str) -> Iterator[bytes]:
    """A file's bytes; of UTF-16 and UTF-32 those of its text in UTF-8, where a comma is one."""
    if encoding.lower().replace("-", "").replace("_", "").startswith(("utf16", "utf32")):
        yield path.read_bytes().decode(encoding, "replace").encode()
        return
    with path.open("rb", buffering=0) as file:
        yield from iter(lambda: file.read(BLOCK), b"")


def _without_nul(path: Path, blocks: Iterator[bytes]) -> Iterator[bytes]:
    """The blocks. Raises ``ValueError`` naming the line of a NUL byte.

    The csv module of Python 3.10 refuses it, and later ones and pyarrow take it for a letter.
    """
    line = 1
    for block in blocks:
        if (place := block.find(b"\0")) >= 0:
            line += block.count(b"\n", 0, place)
            raise ValueError(f"{path}, line {line}, has a NUL byte: this is no text")
        line += block.count(b"\n")
        yield block


def _quotes_in(blocks: Iterator[bytes], separator: str) -> Quotes:
    """A quote opens behind a separator or a line's end, and closes before one; or is doubled."""
    behind = re.compile(re.escape(separator.encode()) + b' {1,4}"[^"]')
    around = np.zeros(256, bool)
    around[list(f'"\r\n{separator}'.encode())] = True
    count, spaced, sound, multiline = 0, False, True, False
    rest = b"\n"
    for block in chain(blocks, [b"\n"]):
        if count % 2 or b'"' in block or b'"' in rest[-1:]:
            text = np.frombuffer(rest + block, np.uint8)
            inner = text[len(rest) - 1 : -1]  # each has a neighbor on both sides
            marked = (inner == ord('"')) | (inner == ord("\n"))
            if b"\r" in block or rest[-1:] == b"\r":
                marked |= inner == ord("\r")
            marks = marked.nonzero()[0]
            quotes = inner[marks] == ord('"')
            breaks = np.flatnonzero(~quotes)
            before = breaks - np.arange(len(breaks)) + count
            multiline |= bool((before % 2).any())
            places = marks[quotes] + len(rest) - 1
            left, right = text[places - 1], text[places + 1]
            closes = count % 2
            opens = 1 - closes
            sound &= bool(around[left[closes::2]].all() and around[right[opens::2]].all())
            spaced |= bool((left == ord(" ")).any()) and behind.search(rest + block) is not None
            count += len(places)
        rest = block[-8:] if len(block) >= 8 else (rest + block)[-8:]
    return Quotes(spaced, sound and count % 2 == 0, multiline)


def _undecodable(path: Path, encoding: str) -> int:
    """The number of the first line that is not text of that encoding."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line = 1
    with path.open("rb") as file:
        while block := file.read(1 << 12):
            try:
                line += decoder.decode(block).count("\n")
            except UnicodeError as error:
                start = getattr(error, "start", 0)
                return line + block[:start].count(b"\n")
    return line
