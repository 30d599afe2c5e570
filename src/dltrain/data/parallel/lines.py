"""The lines of a text file that may be packed, and may be a stranger's."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

from dltrain.files import LARGEST, RATIO, START, UNPACKED, UTF_16, open_file, require_text

PACKED = ".gz"


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text, packed where the name ends in ``.gz``, without their ends.

    Raises ``ValueError``, naming the line where there is one, for what cannot be read, has a NUL
    byte, or is empty.
    """
    try:
        content = _content(path)
    except (OSError, EOFError, zlib.error) as error:
        told = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read: {told}") from error
    if not content.strip():
        raise ValueError(f"{path} is empty")
    require_text(path, content[:START])
    if content.startswith(UTF_16):
        raise ValueError(f"{path} is UTF-16: save it as UTF-8")
    if (place := content.find(b"\0")) >= 0:
        raise ValueError(f"{path}, line {_line(content, place)} has a NUL byte: this is no text")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {_line(content, error.start)} is no UTF-8 text (byte "
            f"{content[error.start]:#04x}, at byte {error.start:,} of the file)"
        ) from error
    lines = text.removesuffix("\n").split("\n")
    return [line.removesuffix("\r") for line in lines]


def _content(path: Path) -> bytes:
    """All bytes of a file, unpacked up to the limit of :mod:`dltrain.files`."""
    size = path.stat().st_size
    with open_file(path, "rb") as file:
        if path.suffix != PACKED:
            found, limit = file.read(LARGEST + 1), LARGEST
        else:
            limit = max(UNPACKED, RATIO * size)
            with gzip.open(file) as packed:
                found = packed.read(limit + 1)
    if len(found) > limit:
        raise ValueError(f"{path} has more than {limit:,} bytes, which are not read at once")
    return found


def _line(content: bytes, place: int) -> int:
    return content.count(b"\n", 0, place) + 1
