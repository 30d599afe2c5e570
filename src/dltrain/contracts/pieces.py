"""How the tokens of a text join: from their names alone, whoever made them.

Names lie end to end, whether they are characters or pieces of words. ``BLANK`` stands for a blank,
a name such as ``<0xE4>`` for one byte of UTF-8; the names in ``SPECIAL`` stand for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

BLANK = "▁"
PAD, UNKNOWN, BEGIN, END = "<pad>", "<unk>", "<s>", "</s>"
SPECIAL = (PAD, UNKNOWN, BEGIN, END)
"""Padding, what no token stands for, the beginning and the end of a text."""
BYTES = tuple(f"<0x{number:02X}>" for number in range(256))
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def text_of(names: Sequence[str], ids: Iterable[int]) -> str:
    """The text that ``ids`` spell, without a blank before its first word.

    Bytes that are no UTF-8 become replacement characters.
    """
    content = b"".join(bytes_of(names[number]) for number in ids)
    text = content.decode("utf-8", errors="replace")
    return text.removeprefix(" ")


def bytes_of(name: str) -> bytes:
    """The UTF-8 that a token stands for."""
    if name in SPECIAL:
        return b""
    byte = _BYTE.fullmatch(name)
    return bytes([int(byte[1], 16)]) if byte else name.replace(BLANK, " ").encode()
