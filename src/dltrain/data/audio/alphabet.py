"""Transcripts as letters: what is done to a text first, and the number of each letter."""

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
    """``names`` of all that a transcript is made of; ``NOTHING`` and ``UNKNOWN`` come first."""

    names: tuple[str, ...]

    @classmethod
    def learn(cls, texts: Iterable[str]) -> Alphabet:
        """All letters of the texts, in order."""
        letters = sorted({letter for text in texts for letter in text})
        return cls((NOTHING, UNKNOWN, *map(_named, letters)))

    @classmethod
    def of(cls, letters: str) -> Alphabet:
        """Those ``letters``, in this order. Raises ValueError for one that comes twice."""
        twice = next((one for one in letters if letters.count(one) > 1), None)
        if twice is not None or not letters:
            raise ValueError(f"alphabet has each letter once, got {letters!r}")
        return cls((NOTHING, UNKNOWN, *map(_named, letters)))

    def encode(self, text: str) -> list[int]:
        """The number of each letter; ``UNKNOWN_INDEX`` of those that it lacks."""
        places = {name: number for number, name in enumerate(self.names)}
        return [places.get(_named(letter), UNKNOWN_INDEX) for letter in text]

    def lacks(self, text: str) -> str:
        """The letters of ``text`` that it lacks, each once."""
        return "".join(dict.fromkeys(one for one in text if _named(one) not in self.names[2:]))


def plain(text: str, lower: bool, replace: Mapping[str, str]) -> str:
    """``text`` with letters of one code point, one blank between words, and what is replaced."""
    for old, new in replace.items():
        text = text.replace(old, new)
    text = unicodedata.normalize("NFC", text.lower() if lower else text)
    return " ".join(text.split())


def frames_needed(ids: Sequence[int]) -> int:
    """The least number of frames that CTC can write ``ids`` in: equal neighbors need a blank."""
    return len(ids) + sum(one == other for one, other in pairwise(ids))


def _named(letter: str) -> str:
    return BLANK if letter == " " else letter
