"""What a token is: words where a text leaves blanks between them, else characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Tokens = Literal["word", "character", "mixed", "bpe"]

_SPACELESS = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF)),  # Thai and Lao, Burmese, Khmer
    *((0x1950, 0x19FF), (0x1A20, 0x1AAF), (0x1B00, 0x1B7F)),  # Tai Le, Tai Lue, Tai Tham, Balinese
    *((0x3005, 0x3007), (0x3040, 0x312F), (0x31A0, 0x31BF)),  # kana, bopomofo
    *((0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0xA4CF)),  # Chinese characters, Yi
    *((0xA980, 0xA9FF), (0xAA60, 0xAA7F), (0xF900, 0xFAFF)),  # Javanese, Burmese of minorities
    *((0xFF66, 0xFF9F), (0x1B000, 0x1B16F), (0x20000, 0x323AF)),  # narrow kana, rare characters
)
"""Code points, first and last, of scripts that leave no blanks between words."""
_FLAG = r"[\x{1F1E6}-\x{1F1FF}]{2}"
_SPACELESS_CLASS = "".join(rf"\x{{{first:X}}}-\x{{{last:X}}}" for first, last in _SPACELESS)
_MIXED_LETTER = rf"[\w&&[^{_SPACELESS_CLASS}]]"
# For the tokenizers library, whose \w has marks and whose classes know && for "and".
PATTERNS: dict[Tokens, str] = {
    "word": rf"\w+(?:['’]\w+)*|{_FLAG}|[^\w\s]",
    "bpe": rf"\w+(?:['’]\w+)*|{_FLAG}|[^\w\s]",
    "character": rf"{_FLAG}|\S\p{{M}}*",
    "mixed": (
        rf"[\w&&[{_SPACELESS_CLASS}]]\p{{M}}*|{_MIXED_LETTER}+(?:['’]{_MIXED_LETTER}+)*"
        rf"|{_FLAG}|[^\w\s]"
    ),
}
"""What is a token, or for ``bpe`` what is cut into tokens.

- ``word``: a word with its apostrophes (don't), one punctuation mark, one emoji.
- ``character``: a letter with the marks above and below it; a blank is the token ``BLANK``.
- ``mixed``: characters of scripts that leave no blanks between words, words of all others.
"""
BLANK = "▁"
IGNORABLE = (
    r"[\x{AD}\x{34F}\x{61C}\x{115F}\x{1160}\x{17B4}\x{17B5}\x{180B}-\x{180F}\x{200B}-\x{200F}"
    r"\x{202A}-\x{202E}\x{2060}-\x{206F}\x{FE00}-\x{FE0F}\x{FEFF}\x{E0000}-\x{E0FFF}]"
)
"""Characters of no width: blanks, joiners, marks of direction, variants of emoji, soft hyphens."""

_python = "".join(f"{chr(first)}-{chr(last)}" for first, last in _SPACELESS)
_letter = re.compile(r"[^\W\d_]")
_spaceless = re.compile(f"[{_python}]")
_seam = re.compile(rf"(?<=[{_python}])\s+(?=[{_python}])")
LONGEST_WORD = 30
"""Letters; more than half of a text in longer ones, such as DNA, are no words."""
_long = re.compile(rf"\w{{{LONGEST_WORD + 1},}}")
_ignorable = re.compile(re.sub(r"\\x\{(\w+)\}", lambda m: chr(int(m[1], 16)), IGNORABLE))
SEGMENTED = 0.15
"""Blanks to a letter of a script that leaves none, where somebody has put them between words.

Between phrases it is 0.02 to 0.08, between words 0.2 (Thai) to 0.6 (Chinese).
"""
NEARLY_ALL, SOME = 0.9, 0.02
SAMPLE, BEGINNING = 2000, 1000
"""So many texts are looked at, and so many characters of each."""


def without_ignorable(text: str) -> str:
    """``text`` without the characters that have no width."""
    return _ignorable.sub("", text)


def is_blank(text: str) -> bool:
    """Whether there is nothing to see in ``text``: blanks, and characters of no width."""
    return not without_ignorable(text).strip()


def choose_tokens(texts: Sequence[str]) -> tuple[Tokens, str]:
    """What tokens ``texts`` ask for, and why; where that is ``word``, there is nothing to say."""
    letters = spaceless = seams = long = 0
    for text in texts[:: -(-len(texts) // SAMPLE)]:
        beginning = without_ignorable(text[:BEGINNING])
        found = len(_spaceless.findall(beginning))
        spaceless += found
        letters += found + sum(not _spaceless.match(c) for c in _letter.findall(beginning))
        seams += len(_seam.findall(beginning))
        long += sum(map(len, _long.findall(beginning)))
    if not letters:
        return "word", ""
    fraction = spaceless / letters
    if fraction >= SOME and seams / spaceless < SEGMENTED:
        said = f"{fraction:.0%} of the letters are of scripts that leave no blanks between words"
        return ("character" if fraction >= NEARLY_ALL else "mixed"), said
    if long > letters / 2:
        return "character", f"most letters are in words of more than {LONGEST_WORD}"
    return "word", ""
