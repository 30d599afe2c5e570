"""Ids of tokens back to text, by the tokens' names alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

BLANK = "▁"
"""What stands for a blank in the name of a token."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_SPECIAL = re.compile(r"<[^<>\s]+>")


def byte_name(value: int) -> str:
    """The name of the token that is one byte of a character that has no token of its own."""
    return f"<0x{value:02X}>"


def text_of(names: Sequence[str], ids: Iterable[int]) -> str:
    """The text whose tokens are ``ids``, which ``names`` names.

    Tokens lie end to end; ``BLANK`` is a blank, ``<0xE4>`` a byte of UTF-8, and any other name in
    angle brackets, such as ``<pad>``, gives nothing. Bytes that are no UTF-8 become U+FFFD.
    """
    return b"".join(bytes_of(names[index]) for index in ids).decode("utf-8", "replace")


def bytes_of(name: str) -> bytes:
    """What a token adds to a text, in UTF-8."""
    byte = _BYTE.fullmatch(name)
    if byte:
        return bytes([int(byte[1], 16)])
    if _SPECIAL.fullmatch(name):
        return b""
    return name.replace(BLANK, " ").encode("utf-8", "surrogatepass")


def silent(names: Sequence[str]) -> list[int]:
    """The tokens that add nothing to a text: padding, and what stands for the unknown."""
    return [index for index, name in enumerate(names) if not bytes_of(name)]


def ids_by_name(names: Sequence[str], text: str) -> list[int]:
    """Tokens that lie end to end as ``text`` does, the longest each time.

    It may be cut otherwise than a tokenizer would. Raises ValueError naming the first character
    that no token begins with.
    """
    known = {name: index for index, name in enumerate(names) if not _SPECIAL.fullmatch(name)}
    longest = max(map(len, known), default=0)
    named, found, start = text.replace(" ", BLANK), list[int](), 0
    while start < len(named):
        ends = range(min(len(named), start + longest), start, -1)
        end = next((end for end in ends if named[start:end] in known), None)
        if end is not None:
            found.append(known[named[start:end]])
        elif byte_name(0) in names:
            end = start + 1
            found += [names.index(byte_name(byte)) for byte in named[start].encode()]
        else:
            raise ValueError(f"{text[start]!r} is no token of the vocabulary")
        start = end
    return found
