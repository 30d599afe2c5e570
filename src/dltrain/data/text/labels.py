"""Labels as people write them: one class may be spelled in several ways."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from dltrain.data.text.scripts import without_ignorable

_NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?")
_WHOLE = re.compile(r"\A([+-]?\d+)\.0*\Z")


def spellings(labels: Iterable[str]) -> dict[str, str]:
    """The class that each different label stands for.

    One class are labels that look alike: é as one character or as two, with or without characters
    of no width, with one blank or several. Where all labels are numbers, so are 1 and 1.0.
    """
    cleaned = {label: _cleaned(label) for label in set(labels)}
    if all(_NUMBER.fullmatch(text) for text in cleaned.values()):
        return {label: _WHOLE.sub(r"\1", text) for label, text in cleaned.items()}
    return cleaned


def merged(classes: Mapping[str, str]) -> Iterator[str]:
    """A line for each class that is spelled in several ways."""
    ways = defaultdict(list)
    for label, name in classes.items():
        ways[name].append(label)
    for name, labels in sorted(ways.items()):
        if len(labels) > 1:
            # As code points where they look alike.
            said = sorted(repr(x) if _cleaned(x) == x else ascii(x) for x in labels)
            yield f"the labels {', '.join(said)} are one class, {name!r}."


def alike(names: Iterable[str]) -> Iterator[str]:
    """A line for classes that differ in upper and lower case alone, which stay apart."""
    ways = defaultdict(list)
    for name in names:
        ways[name.casefold()].append(name)
    for labels in ways.values():
        if len(labels) > 1:
            said = ", ".join(map(repr, labels))
            yield f"the labels {said} differ in case alone, and are {len(labels)} classes."


def _cleaned(label: str) -> str:
    return " ".join(unicodedata.normalize("NFC", without_ignorable(label)).split())
