"""Transcripts as letters or words: what is done to a text first, and the number of each."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from dltrain.contracts.pieces import BLANK, UNKNOWN

NOTHING = "<blank>"
"""CTC's blank: no letter."""
BLANK_INDEX, UNKNOWN_INDEX = 0, 1


@dataclass(frozen=True)
class Alphabet:
    """``names`` of all that a transcript is made of; ``NOTHING`` and ``UNKNOWN`` come first.

    With ``words`` they are whole words, each with the blank before it, else letters.
    """

    names: tuple[str, ...]
    words: bool = False

    @classmethod
    def learn(cls, texts: Iterable[str], words: bool = False) -> Alphabet:
        """All letters, or words, of the texts, in order."""
        found = sorted({one for text in texts for one in _parts(text, words)})
        return cls((NOTHING, UNKNOWN, *(_named(one, words) for one in found)), words)

    @classmethod
    def of(cls, alphabet: str, words: bool = False) -> Alphabet:
        """Those letters, or words, in this order. Raises ValueError for one that comes twice."""
        found = _parts(alphabet, words)
        twice = next((one for one in found if found.count(one) > 1), None)
        if twice is not None or not found:
            raise ValueError(
                f"alphabet has each {'word' if words else 'letter'} once, got {alphabet!r}"
            )
        return cls((NOTHING, UNKNOWN, *(_named(one, words) for one in found)), words)

    def encode(self, text: str) -> list[int]:
        """The number of each letter or word; ``UNKNOWN_INDEX`` of those that it lacks."""
        places = {name: number for number, name in enumerate(self.names)}
        parts = _parts(text, self.words)
        return [places.get(_named(one, self.words), UNKNOWN_INDEX) for one in parts]

    def lacks(self, text: str) -> list[str]:
        """The letters or words of ``text`` that it lacks, each once."""
        parts = dict.fromkeys(_parts(text, self.words))
        return [one for one in parts if _named(one, self.words) not in self.names[2:]]


def plain(text: str, lower: bool, replace: Mapping[str, str]) -> str:
    """``text`` with letters of one code point, one blank between words, and what is replaced."""
    for old, new in replace.items():
        text = text.replace(old, new)
    text = unicodedata.normalize("NFC", text.lower() if lower else text)
    return " ".join(text.split())


def frames_needed(ids: Sequence[int]) -> int:
    """The least number of frames that CTC can write ``ids`` in: equal neighbors need a blank."""
    return len(ids) + sum(one == other for one, other in pairwise(ids))


def _parts(text: str, words: bool) -> list[str]:
    return text.split() if words else list(text)


def _named(part: str, words: bool) -> str:
    if words:
        return BLANK + part
    return BLANK if part == " " else part
