"""What a cell's text says: nothing, a number, a truth value; and which texts say the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import isfinite

MISSING = ("?", "NA", "N/A", "#N/A", "<NA>", "NaN", "NaT", "null", "none")
"""What a cell without a value may hold, in any case; an empty one has none in any case."""
TRUE = frozenset({"true", "t", "yes", "y", "on"})
FALSE = frozenset({"false", "f", "no", "n", "off"})
BOOLEANS = dict.fromkeys(TRUE, True) | dict.fromkeys(FALSE, False) | {"1": True, "0": False}

MARKS = {"comma": ",", "point": ".", "apostrophe": "'", "blank": " ", "none": ""}
"""What is awkward to type."""

INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u2060\ufeff]|^[\u200c\u200d]+|[\u200c\u200d]+$")
"""Soft hyphens, blanks without width, direction marks; joiners only where they join nothing."""
CODES = "USD|EUR|GBP|JPY|CHF|CNY|INR|AUD|CAD|SEK|NOK|DKK|PLN|BRL|KRW"
NUMBER = (
    r"[+-]?(?:\d{1,3}(?:(?P<group>[.,'’ ])\d{3})(?:(?P=group)\d{3})*(?:[.,]\d*)?"
    r"|\d+(?:[.,]\d*)?(?:[eE][+-]?\d+)?|[.,]\d+)"
)
# Not $: it matches before a line's end, too.
AFFIXED = re.compile(
    rf"(?P<sign>[+-]?)(?P<prefix>(?:[^\w\s.,'’+-]{{1,2}}|{CODES})?) ?"
    rf"(?P<number>{NUMBER}) ?(?P<suffix>(?:[^\W\d_]{{1,4}}|[^\w\s.,'’+-]{{1,2}})?)\Z"
)
"""A number with at most a unit before it or behind it."""


def clean(text: str) -> str:
    """The text in Unicode's composed form, without what nobody sees; blanks are one plain one."""
    if not text.isascii():
        text = INVISIBLE.sub("", unicodedata.normalize("NFC", text))
    return "\n".join(" ".join(line.split()) for line in text.strip().split("\n"))


@dataclass(frozen=True)
class CellFormat:
    """How a table writes numbers, and what it writes where there is none.

    ``decimal`` is the mark before a fraction, ``thousands`` that between groups of three digits
    (empty: there is none); ``missing`` the words for no value, beside the empty cell.
    """

    decimal: str = "."
    thousands: str = ""
    missing: Sequence[str] = MISSING
    _words: frozenset[str] = field(init=False, repr=False, compare=False)
    _grouped: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the marks, which may be given by name."""
        for name in ("decimal", "thousands"):
            object.__setattr__(self, name, MARKS.get(getattr(self, name), getattr(self, name)))
        if self.decimal not in (".", ","):
            raise ValueError(f"decimal is a point or a comma, got {self.decimal!r}")
        if self.thousands not in ("", ".", ",", "'", "’", " ") or self.thousands == self.decimal:
            raise ValueError(
                f"thousands is one of {', '.join(MARKS)}, and not the decimal mark "
                f"{self.decimal!r}; got {self.thousands!r}"
            )
        object.__setattr__(self, "_words", frozenset({"", *(w.casefold() for w in self.missing)}))
        mark, group = re.escape(self.decimal), re.escape(self.thousands)
        whole = rf"(?:\d{{1,3}}(?:{group}\d{{3}})+|\d*)" if group else r"\d*"
        pattern = rf"[+-]?{whole}(?:{mark}\d*)?(?:[eE][+-]?\d+)?\Z"
        object.__setattr__(self, "_grouped", re.compile(pattern))

    @property
    def is_plain(self) -> bool:
        """Whether numbers are written as Python writes them."""
        return (self.decimal, self.thousands) == (".", "")

    @property
    def spellings(self) -> list[str]:
        """The usual spellings of the words for a missing cell."""
        forms = (str.lower, str.upper, str.capitalize, str)
        return sorted({"", *(form(word) for word in self.missing for form in forms)})

    @property
    def missing_numbers(self) -> list[float]:
        """Words for a missing cell that are numbers, such as -999."""
        return [
            value
            for word in self.missing
            if (value := self.number(word)) is not None and isfinite(value)
        ]

    def uses_its_marks(self, texts: Sequence[str]) -> bool:
        """Whether the texts have both marks, or the only one that is not the usual."""
        marks = [self.thousands] if self.thousands else [self.decimal]
        marks += [self.decimal] if self.decimal == "," else []
        return all(any(mark in text for text in texts) for mark in marks)

    def is_missing(self, text: str) -> bool:
        """Whether a cell says that there is no value."""
        return text.casefold() in self._words

    def number(self, text: str) -> float | None:
        """The number a cell holds, or None."""
        plain = self.plain(text)
        try:
            # Python reads 1_000 as a number; tables do not.
            return None if plain is None or "_" in plain else float(plain)
        except ValueError:
            return None

    def plain(self, text: str) -> str | None:
        """A number as Python writes it; None where the marks stand as they cannot."""
        if self.is_plain:
            return text
        if self._grouped.match(text) is None:
            return text if text.isalpha() else None  # inf, nan
        return text.replace(self.thousands, "").replace(self.decimal, ".")


def strip_affix(text: str, affix: str) -> str | None:
    """A number's text without the unit ``affix`` before or behind it; None where it has none."""
    found = AFFIXED.match(text)
    if found is None or affix not in (found["prefix"], found["suffix"]):
        return None
    if found["prefix"] and found["suffix"]:
        return None
    return (found["sign"] + found["number"]).strip()


def common_affix(texts: Sequence[str], format: CellFormat) -> str | None:
    """The one unit that all of the numbers ``texts`` are written with, or None."""
    found = AFFIXED.match(texts[0]) if texts else None
    if found is None or not (found["prefix"] or found["suffix"]):
        return None
    affix = found["prefix"] or found["suffix"]
    stripped = [strip_affix(text, affix) for text in texts]
    return affix if all(s is not None and format.number(s) is not None for s in stripped) else None


def looks_numeric(text: str) -> bool:
    """Whether a text is a number in some country's way of writing it, or with some unit."""
    found = AFFIXED.match(text)
    # With letters behind it, as in 12A or 3rd, it is as likely a name.
    return found is not None and not any(map(str.isalpha, found["suffix"]))


def are_booleans(levels: Iterable[str]) -> bool:
    """Whether all texts are truth values; digits alone are numbers."""
    words = {level.casefold() for level in levels}
    return bool(words - {"0", "1"}) and words <= BOOLEANS.keys()


def sorted_levels(levels: Iterable[str], format: CellFormat | None = None) -> list[str]:
    """Different texts in order: by value if all are numbers, else as texts."""
    ordered = sorted(set(levels))
    values = {level: (format or CellFormat()).number(level) for level in ordered}
    if None in values.values():
        return ordered
    return sorted(ordered, key=lambda level: values[level] or 0.0)


def meaning(level: str, format: CellFormat) -> Hashable:
    """What two spellings of one level have in common: the exact number, or the cleaned text."""
    text = clean(level)
    value = format.number(text)
    # Not the number as a float: long numbers that differ in their last digits are no one level.
    return text if value is None or not isfinite(value) else Decimal(format.plain(text) or text)


def merged(
    levels: Mapping[str, int], format: CellFormat, booleans: bool, case: bool
) -> dict[str, str]:
    """Which spelling stands for each of ``levels``, given how often there is each.

    One stands for all that have the same :func:`meaning`, truth value (``booleans``) or letters
    (``case``): of numbers the shortest, of others the most frequent.
    """
    groups: dict[Hashable, list[str]] = {}
    for level in levels:
        same: Hashable = meaning(level, format)
        if booleans:
            same = BOOLEANS[clean(level).casefold()]
        elif case and isinstance(same, str):
            same = same.casefold()
        groups.setdefault(same, []).append(level)
    found: dict[str, str] = {}
    for same, spellings in groups.items():
        if isinstance(same, Decimal):
            best = min(spellings, key=lambda level: (len(level), level))
        else:
            best = min(spellings, key=lambda level: (-levels[level], level))
        found |= dict.fromkeys(spellings, clean(best))
    return found
