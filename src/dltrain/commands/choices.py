"""What a choice is, read from the comments in its config file and from its class's annotations.

Nothing is imported that is described here, for that would take seconds.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError

if TYPE_CHECKING:
    from dltrain.config.compose import ConfigFile

CITATION = re.compile(r" \([^()]*\b\d{4}\b[^()]*\)")


@dataclass
class Key:
    """A key of a config file as it is typed, the text of its value, and its comment."""

    name: str
    value: str
    comment: str
    type: str = ""
    """In words; empty where no constructor says it."""

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.value == "???"


@dataclass(frozen=True)
class Choice:
    """A choice of a group."""

    group: str
    name: str
    target: str
    """The class that it makes; empty where it makes none."""
    about: Sequence[str]
    """Paragraphs; lines that are indented as they are."""
    chooses: Sequence[str]
    """What it chooses of other groups, as one would type it."""
    keys: Sequence[Key]
    """Its own before those of the files that it builds on."""


def require_choice(command: str, group: str, name: str, of: Mapping[str, str]) -> None:
    """Raise :class:`UserError` unless ``group=name`` is one ``of`` those that there are."""
    if name not in of:
        hint = did_you_mean(name, of) or f"See dltrain {command} {group}."
        raise UserError(f"{command}: {group}={name}: there is no such choice. {hint}")


def summary(text: str, space: int) -> str:
    """The first paragraph of a config file's head in ``space`` letters, citations left out."""
    said = head(text)[0]
    if len(said) > space:
        said = CITATION.sub("", said)
    return textwrap.shorten(said, space, placeholder=" …", break_on_hyphens=False)


def described(group: str, name: str, text: str) -> Choice:
    """The choice ``group=name``, whose file has ``text``."""
    from dltrain.config.annotations import types_of
    from dltrain.config.build import TARGET
    from dltrain.config.compose import files_of

    keys: dict[str, Key] = {}
    every = files_of(group, name)
    files = [file for file in every if file.inside]
    for file in files:
        for key in keys_in(file.text, file.package):
            before = keys.get(key.name)
            key.comment = key.comment or (before.comment if before else "")
            keys[key.name] = key
    classes = {place: target for file in every for place, target in _targets(file)}
    made = keys.get(f"{group.replace('/', '.')}.{TARGET}")
    # The choice's own keys come before those of the files that it builds on.
    own = {
        key.name for file in files if file.text == text for key in keys_in(file.text, file.package)
    }
    found = []
    for key in sorted(keys.values(), key=lambda key: key.name not in own):
        parent, _, last = key.name.rpartition(".")
        if last == TARGET:
            continue
        key.type = _kind(types_of(classes[parent]).get(last)) if parent in classes else ""
        found.append(key)
    target = made.value if made else ""
    return Choice(group, name, target, head(text), list(_overridden(text)), found)


def _targets(file: ConfigFile) -> Iterator[tuple[str, str]]:
    """The class that each key of a config file names."""
    import yaml

    from dltrain.config.build import TARGET

    def inside(node: Any, place: str) -> Iterator[tuple[str, str]]:
        if not isinstance(node, dict):
            return
        if isinstance(node.get(TARGET), str):
            yield place, node[TARGET]
        for name, inner in node.items():
            yield from inside(inner, f"{place}.{name}" if place else str(name))

    content = yaml.load(file.text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    yield from inside(content, file.package)


def _kind(annotation: Any) -> str:
    from dltrain.config.values import UNSAID, expected

    said = expected(annotation) if annotation is not None else ""
    return "" if said == UNSAID else said


def head(text: str) -> list[str]:
    """The comment at the head of a config file: its paragraphs, and indented lines as they are."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            lines.append(line[1:].removeprefix(" ").rstrip())
    paragraphs: list[str] = []
    for plain, part in groupby(lines, key=lambda line: bool(line) and not line.startswith(" ")):
        rows = list(part)
        paragraphs += [" ".join(rows)] if plain else rows
    return paragraphs or [""]


def _overridden(text: str) -> Iterator[str]:
    """What a file chooses of other groups, as one would type it."""
    import yaml

    for entry in (yaml.safe_load(text) or {}).get("defaults", []):
        for name, choice in entry.items() if isinstance(entry, dict) else ():
            if name.startswith("override "):
                group = name.removeprefix("override ").lstrip("/").partition("@")[0]
                listed = f"[{','.join(choice)}]" if isinstance(choice, list) else choice
                yield f"{group}={listed}"


def keys_in(text: str, package: str) -> Iterator[Key]:
    """The keys of a config file, with the comment that stands behind each value or above it."""
    import yaml

    root = yaml.compose(text, yaml.SafeLoader)
    lines = text.splitlines()

    def inside(node: yaml.MappingNode, prefix: str) -> Iterator[Key]:
        for name, value in node.value:
            key = f"{prefix}.{name.value}" if prefix else name.value
            if (prefix == package and name.value == "defaults") or key == "hydra":
                continue
            if isinstance(value, yaml.MappingNode) and value.value:
                yield from inside(value, key)
                continue
            shown = " ".join(text[value.start_mark.index : value.end_mark.index].split())
            behind = lines[value.end_mark.line][value.end_mark.column :].strip()
            comment = behind.lstrip("# ") if behind.startswith("#") else ""
            yield Key(key, shown, comment or _above(lines, name.start_mark.line))

    if isinstance(root, yaml.MappingNode):
        yield from inside(root, package)


def _above(lines: Sequence[str], row: int) -> str:
    """The comment right above line ``row``, unless it is the file's head."""
    first = row
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(line.strip(" #") for line in lines[first:row]) if first else ""
