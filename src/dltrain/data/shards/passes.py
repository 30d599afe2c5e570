"""What is learned of tables in shards, piece by piece: values of texts, means and stds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from dltrain.data.shards.pieces import Part
from dltrain.data.tables.encoding import Scaling, is_constant
from dltrain.errors import UserError

T = TypeVar("T")
THREADS = 2
MOST = 100_000
"""Different texts of a column, beyond which they are no levels of anything."""


@dataclass
class Moments:
    """Of feature vectors, by column: rows, known values, their mean and squared deviations."""

    rows: int
    known: Tensor
    mean: Tensor
    squares: Tensor

    @classmethod
    def of(cls, chunk: Tensor) -> Moments:
        """Those of ``chunk`` (rows, features), float64, NaN where a value is missing."""
        there = ~chunk.isnan()
        known = there.sum(0).double()
        mean = chunk.nan_to_num(0).sum(0) / known.clamp(min=1)
        squares = (chunk - mean).nan_to_num(0).square().sum(0)
        return cls(len(chunk), known, mean, squares)

    def __add__(self, other: Moments) -> Moments:
        """Both together, as Chan, Golub and LeVeque (1983) have it."""
        known = self.known + other.known
        weight = other.known / known.clamp(min=1)
        apart = other.mean - self.mean
        return Moments(
            self.rows + other.rows,
            known,
            self.mean + apart * weight,
            self.squares + other.squares + apart.square() * self.known * weight,
        )

    def scaling(self, unscaled: Sequence[int], standardize: bool) -> Scaling:
        """As :func:`~dltrain.data.tables.encoding.learn_scaling` has it."""
        mean = torch.where(self.known > 0, self.mean, torch.nan)
        if not standardize:
            return Scaling(mean.tolist())
        variance = self.squares / self.rows
        scaled = torch.ones_like(mean, dtype=torch.bool)
        scaled[list(unscaled)] = False
        varies = scaled & ~is_constant(variance, mean, self.rows)
        std = torch.where(varies, variance.sqrt(), 1.0)
        return Scaling(mean.tolist(), torch.where(scaled, mean, 0.0).tolist(), std.tolist())

    def unit(self) -> tuple[float, float]:
        """Mean and standard deviation of one column of numbers to predict."""
        variance = self.squares[0] / self.rows
        if self.rows < 2 or is_constant(variance, self.mean[0], self.rows):
            return float(self.mean[0]), 1.0
        return float(self.mean[0]), float((self.squares[0] / (self.rows - 1)).sqrt())


def over(part: Part, work: Callable[[int], T]) -> Iterator[T]:
    """``work`` on the number of each piece that has examples of a part: in threads, in order."""
    with ThreadPoolExecutor(THREADS) as pool:
        yield from pool.map(work, np.flatnonzero(part.counts).tolist())


def values_of(part: Part, names: Sequence[str]) -> dict[str, Counter[str | None]]:
    """How often each column has each value, as text; None where there is none.

    Raises :class:`UserError` where there are too many.
    """

    def count(number: int) -> dict[str, Counter[str | None]]:
        found = {name: Counter[str | None]() for name in names}
        for batch, _ in part.read(number, names):
            for name in names:
                for entry in as_text(batch.column(name)).value_counts().to_pylist():
                    found[name][entry["values"]] += entry["counts"]
        return found

    total = {name: Counter[str | None]() for name in names}
    for found in over(part, count) if names else ():
        for name, counts in found.items():
            total[name].update(counts)
            if len(total[name]) > MOST:
                raise UserError(
                    f"data: column {name!r} of {part.shards.names[0]} and the others has more than "
                    f"{MOST:,} different values. Leave it out by data.exclude, or, if they are "
                    "numbers, write it as such."
                )
    return total


def as_text(column: Any) -> Any:
    """A column of an arrow type as one of texts."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return column.cast(pa.string())
