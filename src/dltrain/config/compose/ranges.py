"""What ``dltrain tune`` is given of a key: the values that it may have."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from hydra.core.override_parser.types import (
    ChoiceSweep,
    IntervalSweep,
    Override,
    RangeSweep,
)

from dltrain.config.compose.grammar import read, unreadable
from dltrain.config.compose.sweeps import length_of, values_of
from dltrain.config.space import (
    FORMS,
    FUNCTIONS,
    Choice,
    Dimension,
    Interval,
    in_hydras_words,
    unknown_function,
)
from dltrain.config.suggest import nearest
from dltrain.errors import ConfigError, Fault

MOST_STEPS = 100_000
"""Of a range that is no range of integers."""


def separate(typed: Sequence[str]) -> tuple[list[str], dict[str, Dimension]]:
    """The overrides that set one value, and what each other key may be given.

    Raises :class:`ConfigError` for those that cannot be read.
    """
    fixed: list[str] = []
    space: dict[str, Dimension] = {}
    faults = []
    for line in typed:
        key, equals, value = line.partition("=")
        try:
            found = read(f"{key}{equals}{in_hydras_words(value)}")
            if found is None:
                raise ValueError(_unknown_form(value))
            dimension = _dimension(found)
        except ValueError as error:
            faults.append(Fault(key, f"{value}: {error}.") if str(error) else unreadable(line))
            continue
        if dimension is not None:
            faults += [Fault(key, "is given twice.", joint=" ")] if key in space else []
            space[key] = dimension
        else:
            fixed.append(line)
    faults += [
        Fault(key, "is given twice, once as a range.", joint=" ")
        for key in {line.partition("=")[0] for line in fixed} & {*space}
    ]
    if faults:
        raise ConfigError(faults)
    return fixed, space


def _unknown_form(value: str) -> str:
    """Why Hydra cannot read a value that begins as a range does; empty where it does not."""
    name = unknown_function(value)
    if name is not None:
        hint = nearest(name, FUNCTIONS)
        meant = f" (did you mean {hint}?)" if hint else ""
        return f"there is no {name}(…){meant}; write {FORMS}"
    if re.match(r"(log|uniform|int|interval|range)\(", value.strip()):
        return f"this is no range; write {FORMS}"
    return ""


def _dimension(override: Override) -> Dimension | None:
    """The values of an override as Hydra has read it; None where it has one value."""
    sweep = override.value()
    if isinstance(sweep, IntervalSweep):
        return Interval(sweep.start, sweep.end, "log" in sweep.tags)
    if isinstance(sweep, RangeSweep):
        if length_of(sweep) < 2:
            raise ValueError("a range has two values at least; its end is not among them")
        whole = sweep.range()
        if not isinstance(whole, range) and length_of(sweep) > MOST_STEPS:
            raise ValueError(f"a range has at most {MOST_STEPS:,} steps; write uniform(a,b)")
        values = whole if isinstance(whole, range) else list(whole)
        step = None if sweep.step == 1 and isinstance(values[0], int) else sweep.step
        return Interval(values[0], values[-1], "log" in sweep.tags, step)
    if isinstance(sweep, ChoiceSweep):
        values_of(override)
        sweep = replace(sweep, shuffle=False)
        return Choice(tuple(replace(override, _value=sweep).sweep_string_iterator()))
    if override.is_sweep_override():
        raise ValueError("the choices must be listed: a,b,c")
    return None
