"""What metrics keep of a split: sums, every example, or the top k of them.

All of it stays where the batches are, and nothing waits for the device, until it is asked for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.metric import Metric

if TYPE_CHECKING:
    from typing_extensions import Self


PRIME = 16_777_213
"""The largest below 2**24, up to which float32 has every whole number."""
GOLDEN = 10_368_889
"""``PRIME`` by the golden ratio."""


class Accumulator(ABC):
    """Gathers something batch by batch, as a metric does."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what ``other`` has gathered on other batches."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What was gathered: tensors, and primitives and lists of them."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the place of one that gathered ``state``."""


class AccumulatorMetric(Metric):
    """A metric that keeps all it gathers in named accumulators."""

    def __init__(self, **accumulators: Accumulator) -> None:
        self._accumulators = accumulators

    def merge(self, other: Self) -> None:
        """Merge each accumulator with its counterpart."""
        for name, accumulator in self._accumulators.items():
            accumulator.merge(other._accumulators[name])

    def state_dict(self) -> dict[str, Any]:
        """That of each accumulator."""
        return {name: accumulator.state_dict() for name, accumulator in self._accumulators.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Hand each accumulator its own."""
        for name, accumulator in self._accumulators.items():
            accumulator.load_state_dict(state[name])


class Sum(Accumulator):
    """A running sum of tensors of one shape, and how many examples it is over."""

    def __init__(self) -> None:
        self._value: Tensor | None = None
        self.examples = 0

    @property
    def value(self) -> Tensor:
        """The sum so far, of at least one tensor."""
        assert self._value is not None, "an empty split"
        return self._value

    def add(self, value: Tensor, examples: int) -> None:
        """Add ``value``, which is over so many examples."""
        self._value = value if self._value is None else self._value + value
        self.examples += examples

    def merge(self, other: Self) -> None:
        if other._value is not None:
            self.add(other._value, other.examples)

    def state_dict(self) -> dict[str, Any]:
        """The sum, None where nothing was added, and its examples."""
        return {"value": self._value, "examples": self.examples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._value, self.examples = state["value"], state["examples"]


class Moments(Accumulator):
    """The mean and the sum of squared deviations from it, by column, in float64.

    Parts are joined by the formula of Chan, Golub and LeVeque 1983, which stays exact where the
    mean is large beside the standard deviations.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean: Tensor | None = None
        self._squared_deviations: Tensor | None = None

    @property
    def squared_deviations(self) -> Tensor:
        """(columns,): the sum of squared deviations from the mean, of at least one row."""
        assert self._squared_deviations is not None, "an empty split"
        return self._squared_deviations

    def add(self, rows: Tensor) -> None:
        """Take in ``rows`` (n, columns)."""
        rows = double(rows)
        mean = rows.mean(0)
        self._join(len(rows), mean, (rows - mean).square().sum(0))

    def merge(self, other: Self) -> None:
        """Join the other's moments."""
        if other._mean is not None and other._squared_deviations is not None:
            self._join(other.count, other._mean, other._squared_deviations)

    def _join(self, count: int, mean: Tensor, squared_deviations: Tensor) -> None:
        if self._mean is None or self._squared_deviations is None:
            self.count, self._mean, self._squared_deviations = count, mean, squared_deviations
            return
        total = self.count + count
        apart = mean - self._mean
        self._squared_deviations = (
            self._squared_deviations
            + squared_deviations
            + apart.square() * (self.count * count / total)
        )
        self._mean = self._mean + apart * (count / total)
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """Count, mean and standard deviations; None where no row was added."""
        return {
            "count": self.count,
            "mean": self._mean,
            "squared_deviations": self._squared_deviations,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those moments."""
        self.count = state["count"]
        self._mean, self._squared_deviations = state["mean"], state["squared_deviations"]


class Everything(Accumulator):
    """Some columns of every example, whatever the order in which they come."""

    def __init__(self) -> None:
        self._rows: list[Tensor] = []
        self._columns: list[list[Tensor]] = []

    def add(self, rows: Tensor, *columns: Tensor) -> None:
        """Keep a batch: ``columns`` (n, ...) of the examples ``rows`` (n,)."""
        self._rows.append(rows)
        self._columns.append(list(columns))

    def found(self) -> list[Tensor]:
        """The columns (examples, ...), in the split's order."""
        assert self._rows, "an empty split"
        columns = [torch.cat(parts) for parts in zip(*self._columns, strict=True)]
        rows = torch.cat([part.cpu() for part in self._rows])
        if bool((rows.diff() > 0).all()):  # they came in order, and need not be copied
            return columns
        order = rows.argsort()
        return [column.index_select(0, order.to(column.device)) for column in columns]

    def merge(self, other: Self) -> None:
        self._rows += other._rows
        self._columns += other._columns

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self._rows), "columns": [list(part) for part in self._columns]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rows = list(state["rows"])
        self._columns = [list(part) for part in state["columns"]]


class TopK(Accumulator):
    """The ``most`` examples of a split that score highest.

    Nothing but those is kept. Columns of sequences (n, time, ...) of different lengths are padded
    on the right with ``fill``. Between equal scores it is open which example is kept.
    """

    def __init__(self, most: int, fill: float = 0) -> None:
        self._most, self._fill = most, fill
        self._kept: list[Tensor] = []

    def add(self, scores: Tensor, *columns: Tensor) -> None:
        """Look through a batch of ``columns`` (n, ...); ``scores`` are (n,), -inf for never."""
        self._keep([scores, *columns])

    def found(self) -> list[Tensor]:
        """The columns of those found, the highest score first, on the CPU."""
        scores, *columns = (column.cpu() for column in self._kept)
        return [column[scores > float("-inf")] for column in columns]

    def _keep(self, columns: list[Tensor]) -> None:
        chosen = _highest(columns, self._most)
        if self._kept:
            pairs = zip(self._kept, chosen, strict=True)
            joined = [_joined(one, other, self._fill) for one, other in pairs]
            chosen = _highest(joined, self._most)
        self._kept = chosen

    def merge(self, other: Self) -> None:
        if other._kept:
            self._keep(other._kept)

    def state_dict(self) -> dict[str, Any]:
        """Scores and columns."""
        return {"kept": list(self._kept)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those."""
        self._kept = list(state["kept"])


class First(Accumulator):
    """The ``most`` examples that come first in the split, whatever the order in which they come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._rows: Tensor | None = None
        self._columns: list[Tensor] = []

    def add(self, rows: Tensor, *columns: Tensor) -> None:
        """Look through a batch: ``columns`` (n, ...) of the examples ``rows`` (n,)."""
        before = rows[:0] if self._rows is None else self._rows
        joined = torch.cat((before, rows))
        order = joined.argsort()[: self._most]  # on the rows' device, which need not be waited for
        pairs = zip(self._columns or [column[:0] for column in columns], columns, strict=True)
        self._columns = [
            torch.cat(pair).index_select(0, order.to(pair[0].device, non_blocking=True))
            for pair in pairs
        ]
        self._rows = joined.index_select(0, order)

    def found(self) -> list[Tensor]:
        """The columns of those found, in the split's order, on the CPU."""
        return [column.cpu() for column in self._columns]

    def merge(self, other: Self) -> None:
        if other._rows is not None:
            self.add(other._rows, *other._columns)

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows, "columns": list(self._columns)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rows, self._columns = state["rows"], list(state["columns"])


def spread(rows: Tensor) -> Tensor:
    """A score (n,) of each of ``rows`` (n,): the highest are evenly spread over a split.

    Whatever its length, and in whatever order its classes lie. These are multiples of the golden
    ratio, without their whole parts, as a float32 holds them; up to ``PRIME`` rows have scores of
    their own.
    """
    return (rows * GOLDEN % PRIME).float()


def double(values: Tensor) -> Tensor:
    """``values`` in float64; on the CPU where their device has no such numbers."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def widest(values: Tensor) -> Tensor:
    """``values`` in float64 where their device has such numbers, else as they are."""
    return values if values.device.type == "mps" else values.double()


def _highest(columns: list[Tensor], most: int) -> list[Tensor]:
    """The rows of ``columns`` in which the first is greatest, in that order."""
    chosen = columns[0].topk(min(most, len(columns[0]))).indices
    return [column.index_select(0, chosen) for column in columns]


def _joined(one: Tensor, other: Tensor, fill: float) -> Tensor:
    """Both, one below the other, padded to the longer of the two."""
    longest = max(one.shape[1:2] + other.shape[1:2], default=0)
    return torch.cat((_padded(one, longest, fill), _padded(other, longest, fill)))


def _padded(column: Tensor, length: int, fill: float) -> Tensor:
    if column.ndim == 1 or column.shape[1] == length:
        return column
    return functional.pad(
        column, (0, 0) * (column.ndim - 2) + (0, length - column.shape[1]), value=fill
    )
