"""From the numbers of tokens to text: what the names of a field of kind ``tokens`` mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

BLANK = "▁"
"""Stands for a blank in a name."""
BYTE = re.compile(r"<0x([0-9A-F]{2})>")
SPECIAL = re.compile(r"<[^<>]+>")


def text_of(names: Sequence[str], ids: Iterable[int]) -> str:
    """The text of ``ids``: their names end to end.

    A name such as ``<0xE4>`` is a byte of UTF-8; any other in angle brackets gives nothing.
    """
    found = bytearray()
    for number in ids:
        name = names[number]
        if byte := BYTE.fullmatch(name):
            found.append(int(byte[1], 16))
        elif not SPECIAL.fullmatch(name):
            found += name.replace(BLANK, " ").encode()
    return found.decode("utf-8", "replace")
