"""A file that is one text."""

from __future__ import annotations

import logging
from pathlib import Path

from dltrain.files import START, read_bytes, require_text, save_as_utf8

logger = logging.getLogger(__name__)

LARGEST = 1 << 32
"""Bytes of a text, which is held in memory."""
MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def read_plain_text(path: Path) -> str:
    """The text of a UTF-8 file, with one kind of line end, whatever the system.

    Raises ValueError for an empty file, and for one that is no text, naming the line and the byte.
    """
    if path.is_dir():
        raise ValueError(f"path: {path} is a folder; give a file of text")
    try:
        content = read_bytes(path, LARGEST)
    except FileNotFoundError:
        raise ValueError(f"path: there is no file {path}") from None
    except OSError as error:
        raise ValueError(f"path: {path} cannot be read: {error.strerror}") from error
    encoding = MARKS.get(content[:2])
    if encoding:
        raise ValueError(f"{path} is {encoding}: save it as UTF-8")
    require_text(path, content[:START])
    nul = content.find(b"\0")
    if nul >= 0:
        raise ValueError(f"{path} is no text: it has a NUL byte at {_place(content, nul)}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Where a byte order mark is left out, places are told without it.
        at = error.start + len(content) - len(error.object)
        raise ValueError(
            f"{path} is no UTF-8: byte 0x{content[at]:02X} at {_place(content, at)}; "
            f"{save_as_utf8(path)}"
        ) from error
    returns = text.count("\r\n")
    if returns:
        logger.info("%s: %s line ends \\r\\n are read as \\n.", path, f"{returns:,}")
    text = text.replace("\r\n", "\n")
    alone = text.count("\r")
    if alone and "\n" not in text:
        logger.info("%s: %s line ends \\r are read as \\n.", path, f"{alone:,}")
        text = text.replace("\r", "\n")
    elif alone:
        logger.info("%s: %s \\r that end no line are characters like others.", path, f"{alone:,}")
    if not text.strip():
        raise ValueError(f"{path} is empty" + (": it has blanks alone" if text else ""))
    return text


def _place(content: bytes, at: int) -> str:
    line = content.count(b"\n", 0, at) + 1
    return f"byte {at:,}, line {line:,}"
