"""How the tokens of a text join: from their names alone, whoever made them.

Names lie end to end, whether they are characters, words or pieces of words. ``BLANK`` stands for a
blank, a name such as ``<0xE4>`` for one byte of UTF-8; the names in ``SPECIAL`` stand for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

BLANK = "▁"
PAD, UNKNOWN, BEGIN, END = "<pad>", "<unk>", "<s>", "</s>"
SPECIAL = (PAD, UNKNOWN, BEGIN, END)
"""Padding, what no token stands for, the beginning and the end of a text."""
BYTES = tuple(f"<0x{number:02X}>" for number in range(256))
"""The names of the bytes of characters that have no token of their own."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


def text_of(names: Sequence[str], ids: Iterable[int]) -> str:
    """The text whose tokens are ``ids``, which ``names`` names, with every blank.

    Bytes that are no UTF-8 become U+FFFD.
    """
    return b"".join(bytes_of(names[index]) for index in ids).decode("utf-8", "replace")


def sentence_of(names: Sequence[str], ids: Iterable[int]) -> str:
    """:func:`text_of` a text of its own: without the blank that marks its first word as one."""
    return text_of(names, ids).removeprefix(" ")


def bytes_of(name: str) -> bytes:
    """What a token adds to a text, in UTF-8."""
    if name in SPECIAL:
        return b""
    byte = _BYTE.fullmatch(name)
    if byte:
        return bytes([int(byte[1], 16)])
    return name.replace(BLANK, " ").encode("utf-8", "surrogatepass")


def silent(names: Sequence[str]) -> list[int]:
    """The tokens that add nothing to a text: padding, and what stands for the unknown."""
    return [index for index, name in enumerate(names) if not bytes_of(name)]


def ids_by_name(names: Sequence[str], text: str) -> list[int]:
    """Tokens that lie end to end as ``text`` does, the longest each time.

    It may be cut otherwise than a tokenizer would. Raises ValueError naming the first character
    that no token begins with.
    """
    known = {name: index for index, name in enumerate(names) if bytes_of(name)}
    numbers = [known[byte] for byte in BYTES] if known.keys() >= set(BYTES) else []
    known = {name: index for name, index in known.items() if not _BYTE.fullmatch(name)}
    longest = max(map(len, known), default=0)
    named, found, start = text.replace(" ", BLANK), list[int](), 0
    while start < len(named):
        ends = range(min(len(named), start + longest), start, -1)
        end = next((end for end in ends if named[start:end] in known), None)
        if end is not None:
            found.append(known[named[start:end]])
        elif numbers:
            end = start + 1
            found += [numbers[byte] for byte in named[start].encode()]
        else:
            raise ValueError(f"{text[start]!r} is no token of the vocabulary")
        start = end
    return found
