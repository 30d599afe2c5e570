"""Which group's files were meant by a key that is no group: ``modifiers=[prune]``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from hydra.core.override_parser.types import Override, QuotedString

from dltrain.config.compose.hydra_setup import (
    NotComposedError,
    config_of,
    defaults_of,
    group_names,
    inner_groups_of,
    keys_of,
    options_of,
)
from dltrain.config.suggest import nearest
from dltrain.errors import Fault

NOTHING = "none"
"""What a group's file is called that chooses nothing."""


def files_meant(override: Override) -> Fault | None:
    """The fault of a key that was given names of files of a group that is called much like it.

    None where it may be anything else: a name is no file's, and not nearly.
    """
    names = _names(override)
    key = override.key_or_group.lstrip("+~")
    for group in _alike(key) if names is not None else ():
        there = options_of(group)
        right = [name if name in there else nearest(name, there) for name in names or [NOTHING]]
        if all(right):
            text = ",".join(map(str, right))
            several = names and isinstance(override.value(), list)
            meant = f"{group}=[{text}]" if several else f"{group}={text}"
            problem = f"files are chosen by the group {group}."
            return Fault(key, problem, f"Write {shlex.quote(meant)}.", instead=meant)
    return None


def comes_with(key: str) -> str:
    """What to type for ``key`` to be there: ``modifier=prune`` for ``modifiers.prune.every``.

    A sentence; empty where no choice of a group that is called much like it brings it.
    """
    above, _, rest = key.partition(".")
    name = rest.partition(".")[0]
    for group in dict.fromkeys([above, *_alike(above)]):
        if not name or name not in options_of(group):
            continue
        for place in keys_of(config_of(f"{group}/{name}")):
            if place.partition(".")[2] == rest and _bare(place.partition(".")[0]) == _bare(above):
                it = "It" if place == key else place
                return f"{it} comes with {group}={name}."
    return ""


def brought_by(group: str, key: str) -> str:
    """Which choice of ``group``, of which none is made, brings ``key``: a sentence, or empty."""
    own = key.removeprefix(f"{group}.")  # of a file that is packaged as its own
    for choice in options_of(group):
        if {own, key} & {*keys_of(config_of(f"{group}/{choice}"))}:
            return f"It comes with {group}={choice}."
    return ""


def takers(line: str) -> list[str]:
    """The choices that go with ``line``, one of a group inside another: ``task/attack=pgd``."""
    outer = line.partition("=")[0].lstrip("+~").rpartition("/")[0]
    found = []
    for choice in options_of(outer):
        try:
            defaults_of([f"{outer}={choice}", line])
        except NotComposedError:
            continue
        found.append(f"{outer}={choice}")
    return found


def _names(override: Override) -> list[str] | None:
    """The words of a value, if it is nothing but those; of null none."""
    if override.is_delete():
        return None
    value = override.value()
    words = value if isinstance(value, list) else [] if value is None else [value]
    texts = [word.text if isinstance(word, QuotedString) else word for word in words]
    names = [text for text in texts if isinstance(text, str)]
    return names if len(names) == len(texts) else None


def is_like_a_group(key: str) -> bool:
    """Whether ``key`` is a group's name but for the s of a plural."""
    return _bare(key) in map(_bare, group_names())


def _alike(key: str) -> Iterator[str]:
    """Groups that ``key`` may stand for: in the plural, with dots, without what is around it."""
    outer = group_names()
    inner = [name for group in outer for name in inner_groups_of(group)]
    if "." in key:
        yield from (name for name in inner if name.replace("/", ".") == key)
        return
    yield from (name for name in outer if _bare(name) == _bare(key) and name != key)
    yield from (name for name in inner if _bare(name.rpartition("/")[2]) == _bare(key))


def _bare(word: str) -> str:
    """Without the s of a plural."""
    return word.rstrip("s")
