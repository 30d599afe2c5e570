"""How many runs overrides with several values ask for, before any of them is composed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hydra.core.override_parser.types import ChoiceSweep, Override, RangeSweep, Sweep

from dltrain.errors import Fault, shortened

MOST_RUNS = 10_000
"""Of one sweep: each has a folder and a line in its table."""


def faults_of_number(overrides: Sequence[Override]) -> list[Fault]:
    """The faults of sweeps that have no value, no end, or too many runs."""
    faults, runs = [], 1
    for override in overrides:
        try:
            number = values_of(override)
        except ValueError as error:
            faults.append(Fault(override.get_key_element(), str(error)))
            continue
        runs *= number
        if runs > MOST_RUNS:
            problem = f"{runs:,} runs at least; a sweep has at most {MOST_RUNS:,}."
            faults.append(Fault(override.get_key_element(), f"with it these are {problem}"))
            break
    return faults


def length_of(sweep: RangeSweep) -> int:
    """How many values a range has; raises ``ValueError`` for one without an end."""
    start, stop, step = float(sweep.start or 0), float(sweep.stop or 0), float(sweep.step)
    if step == 0 or not math.isfinite(start + stop + step):
        raise ValueError("a range has an end and a step that is not 0")
    return max(0, math.ceil((stop - start) / step))


def values_of(override: Override) -> int:
    """How many values an override asks for; a pattern or an interval counts as one.

    Raises ``ValueError`` where they cannot be listed.
    """
    sweep = override.value()
    if isinstance(sweep, RangeSweep):
        number = length_of(sweep)
        if not number:
            text = shortened(override.get_value_string())
            raise ValueError(f"{text} has no value: a range goes from its start by its step")
        return number
    if not isinstance(sweep, ChoiceSweep):
        return 1
    if any(isinstance(value, Sweep) for value in sweep.list):
        raise ValueError("choices are single values: a range stands by itself, or list its values")
    return len(sweep.list)
