"""Overrides as Hydra's grammar reads them, and what is told of those that it cannot read."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from functools import cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Override,
    QuotedString,
    RangeSweep,
)
from hydra.version import VersionBase, getbase

from dltrain.config import quoting
from dltrain.config.compose.hydra_setup import options_of
from dltrain.errors import ConfigError, Fault

CLOSING = {"[": "]", "{": "}"}


def parse(typed: Sequence[str]) -> tuple[list[Override], list[Fault]]:
    """The overrides that can be read, and a fault for each other one."""
    found = {line: read(line) for line in typed}
    overrides = [override for override in found.values() if override is not None]
    return overrides, [unreadable(line) for line, override in found.items() if override is None]


@cache
def read(line: str) -> Override | None:
    """An override, or None where the grammar has no such line."""
    version = getbase()
    try:
        return OverridesParser.create().parse_override(line)
    except Exception:
        # Beside those of Hydra: brackets too deep for Python, a number of too many digits.
        return None
    finally:
        VersionBase.instance().version_base = version  # parsing settles on one where there is none


def _is_text(value: str) -> bool:
    override = read(f"key={value}")
    return override is not None and isinstance(override.value(), (str, QuotedString))


def as_text(key: str, typed: Sequence[str]) -> str | None:
    """What to type so that ``key`` is the text that it was given in ``typed``; None: it was not.

    For what Hydra's grammar has read as a number, true, false or null.
    """
    for line in reversed(typed):  # the last of a key's values wins
        if line.lstrip("+").partition("=")[0] == key:
            return quoting.override_as_text(line, _is_text)
    return None


def unreadable(line: str) -> Fault:
    """Why Hydra's grammar cannot read an override, and what it can read."""
    key, _, value = line.partition("=")
    if read(f"{key}=1") is None:
        return Fault(
            key,
            "this cannot be read as a key.",
            "A key is words of a to z, 0 to 9, _ and -, joined by dots.",
        )
    problem, opened = f"{value} cannot be read as a value", value.strip()[:1]
    if opened in CLOSING and not value.strip().endswith(CLOSING[opened]):
        problem += f": {opened} has no {CLOSING[opened]}"
    meant = quoting.override_as_text(line, _is_text)
    return Fault(key, f"{problem}.", f"If it is text, write {meant}")


def is_group(override: Override) -> bool:
    """Whether an override chooses a file, and sets no key."""
    return bool(options_of(override.key_or_group))


def first_of(typed: Sequence[str]) -> list[str]:
    """The overrides with each sweep at its first value; without those that cannot be read."""
    return variants(parse(typed)[0])[0]


def variants(overrides: Sequence[Override]) -> list[list[str]]:
    """The overrides with every sweep at its first value, and then each other value by itself.

    Of a range its ends: what is between them is no choice of a file, and is right where they are.
    """
    first: list[str] = []
    others: list[tuple[int, str]] = []
    for index, override in enumerate(overrides):
        if override.is_sweep_override() and override.is_discrete_sweep():
            values = [
                f"{override.get_key_element()}={value}"
                for value in override.sweep_string_iterator()
            ]
            first.append(values[0])
            rest = values[-1:] if isinstance(override.value(), RangeSweep) else values[1:]
            others += [(index, value) for value in rest]
        elif not override.is_sweep_override():
            first.append(override.input_line or "")
        else:
            first.append("")  # a range that only its sweeper can draw from
    found = [first, *([*first[:i], value, *first[i + 1 :]] for i, value in others)]
    return [[line for line in variant if line] for variant in found]


def assignments(typed: Sequence[str]) -> dict[str, Any]:
    """The plain value that each override sets its key to, in the order in which they were typed.

    Raises :class:`ConfigError` for what cannot be read, adds or deletes a key, or has several
    values.
    """
    overrides, faults = parse(typed)
    faults += [several(override) for override in overrides if override.is_sweep_override()]
    faults += [
        Fault(override.key_or_group, "keys can be set here, not added or taken out.")
        for override in overrides
        if override.is_add() or override.is_force_add() or override.is_delete()
    ]
    if faults:
        raise ConfigError(faults)
    return {override.get_key_element(): override.value() for override in overrides}


def assigned(typed: Sequence[str], group: str) -> tuple[str | None, dict[str, Any]]:
    """The choice of ``group`` in overrides, if any, and the values by key of all below it.

    Raises :class:`ConfigError` for what cannot be read, and for any other key.
    """
    overrides, faults = parse(typed)
    choice, values = None, {}
    for override in overrides:
        key = override.key_or_group
        if key == group and is_group(override):
            choice = str(override.value())
        elif key.startswith(f"{group}."):
            values[key] = override.value()
        else:
            faults.append(Fault(key, f"only {group}=… and {group}.KEY=… can be given here."))
    if faults:
        raise ConfigError(faults)
    return choice, values


def several(override: Override) -> Fault:
    """The fault of giving a sweep's values to one run."""
    key, value = override.get_key_element(), override.get_value_string()
    hint = "To run them all, add -m"
    if isinstance(override.value(), ChoiceSweep):
        hint += f"; to give one list, write {shlex.quote(f'{key}=[{value}]')}"
    hint += f"; for one text, {quoting.override(key, value)}"
    return Fault(key, f"{value} is several values.", hint)
