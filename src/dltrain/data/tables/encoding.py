"""From the cells of a table to feature vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan

import torch
from torch import Tensor

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
"""What a cell that says nothing may hold, in small letters."""


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.lower() in MISSING


def number(cell: str) -> float | None:
    """The number a cell holds, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    # Python reads 1_000 as a number; tables do not.
    return None if "_" in cell else value


def finite(cell: str, place: Callable[[], str]) -> float:
    """The number a cell holds; NaN where it is missing.

    Raises :class:`ValueError` naming its ``place`` for anything else.
    """
    value = nan if is_missing(cell) else number(cell)
    if value is None or not (isfinite(value) or is_missing(cell)):
        raise ValueError(f"{place()}: {cell!r} is not a (finite) number")
    return value


def numbers(cells: Sequence[str], place: Callable[[int], str]) -> Tensor:
    """A column of numbers as features (rows, 1), float64, NaN where a cell is missing."""
    values = [finite(cell, partial(place, row)) for row, cell in enumerate(cells)]
    return torch.tensor(values, dtype=torch.float64)[:, None]


def one_hot(cells: Sequence[str], levels: Sequence[str]) -> Tensor:
    """A column of texts as features (rows, levels), float64, NaN where a cell is missing.

    A cell that is none of the levels is 0 in all of them.
    """
    index = {level: position for position, level in enumerate(levels)}
    block = torch.zeros(len(cells), len(levels) + 1, dtype=torch.float64)
    codes = torch.tensor([index.get(cell, len(levels)) for cell in cells])
    block.scatter_(1, codes[:, None], 1.0)
    block[torch.tensor([is_missing(cell) for cell in cells])] = nan
    return block[:, :-1]


@dataclass(frozen=True)
class Scaling:
    """What feature vectors become, by what the training rows taught; each a number a feature.

    ``fill`` takes the place of missing values. Empty: as they are.
    """

    fill: Sequence[float] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    def __call__(self, inputs: Tensor) -> Tensor:
        """Vectors (rows, features), float64 with NaN, as float32."""
        if self.fill:
            fill = torch.tensor(self.fill, dtype=inputs.dtype)
            inputs = inputs.where(~inputs.isnan(), fill)
        if self.std:
            mean, std = (torch.tensor(v, dtype=inputs.dtype) for v in (self.mean, self.std))
            inputs = (inputs - mean) / std
        return inputs.float()
