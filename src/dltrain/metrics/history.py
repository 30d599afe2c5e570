"""What training steps returned, kept on the device until somebody reads it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.contracts.task import Metrics
from dltrain.errors import UserError

Average = Callable[[Tensor, Sequence[int], Sequence[float]], Tensor]
"""Of steps the means over all ranks: see :meth:`dltrain.engine.parallel.ranks.Ranks.averaged`."""


def _as_they_are(rows: Tensor, weighted: Sequence[int], fractions: Sequence[float]) -> Tensor:
    return rows


class History:
    """The metrics of every step since the last evaluation.

    :meth:`add` costs a list append; :meth:`read` fetches all that was added in one transfer. A
    mean over examples weighs as much as its batch has, so means are exact with a ragged last
    batch; a metric that comes as ``(mean, weight)`` weighs what it says. Of a metric that had no
    weight at all in a stretch of steps there is no mean. Where a batch is divided among ranks,
    ``average`` makes means of all when they are read.
    """

    def __init__(self, average: Average = _as_they_are) -> None:
        self._average = average
        self._fractions: list[float] = []
        self._names: list[str] = []
        self._weighted: list[str] = []
        self._pending: list[Metrics] = []
        self._rows: list[list[float]] = []
        """A step's values, and then the weights of those that have their own."""
        self._sizes: list[int] = []
        self._window_start = 0

    def add(self, metrics: Metrics, size: int, fraction: float = 1.0) -> None:
        """Note one step's metrics, of a batch of ``size``; this rank has ``fraction`` of it."""
        self._pending.append(metrics)
        self._sizes.append(size)
        self._fractions.append(fraction)

    def read(self) -> int | None:
        """Fetch what is pending; return how many steps ago the first non-finite value arose.

        Raises :class:`UserError` where steps differ in what they return.
        """
        if not self._pending:
            return None
        first = self._pending[0]
        self._require_same_names()
        self._names = list(first)
        self._weighted = [name for name, value in first.items() if isinstance(value, tuple)]
        values = [value for step in self._pending for value in self._values(step)]
        steps = len(self._pending)
        rows: list[list[float]] = [[]] * steps
        if values:
            weighted = [place for place, name in enumerate(self._names) if name in self._weighted]
            table = torch.stack(values).view(steps, -1)
            rows = self._average(table, weighted, self._fractions).tolist()
        self._pending.clear()
        self._fractions.clear()
        self._rows += rows
        for index, row in enumerate(rows):
            if not all(self._finite(row, column) for column in range(len(self._names))):
                return len(rows) - 1 - index
        return None

    def window(self) -> dict[str, float]:
        """Means since the last call, or since the last :meth:`clear`."""
        start, self._window_start = self._window_start, len(self._rows)
        return self._means(start)

    def period(self) -> dict[str, float]:
        """Means since the last :meth:`clear`."""
        return self._means(0)

    def clear(self) -> None:
        """Begin a new period."""
        assert not self._pending, "read before you clear"
        self._rows, self._sizes, self._window_start = [], [], 0

    def _require_same_names(self) -> None:
        expected = self._names if self._rows else list(self._pending[0])
        names = set(expected)
        for step in self._pending:
            if step.keys() != names:
                raise UserError(
                    f"task: its training steps gave {', '.join(expected) or 'nothing'}, and then "
                    f"{', '.join(step) or 'nothing'}. They give always the same; what has no value "
                    "is (value, 0)."
                )

    def _values(self, step: Metrics) -> list[Tensor]:
        if not self._weighted:
            return [_number(step[name]) for name in self._names]  # type: ignore[arg-type]
        values, weights = [], []
        for name in self._names:
            value = step[name]
            if isinstance(value, tuple):
                value, weight = value
                weights.append(_number(weight))
            values.append(_number(value))
        return [*values, *weights]

    def _weight_column(self, column: int) -> int | None:
        """Where the weight of a value stands; None: it weighs as much as its batch has examples."""
        name = self._names[column]
        if name not in self._weighted:
            return None
        return len(self._names) + self._weighted.index(name)

    def _finite(self, row: list[float], column: int) -> bool:
        place = self._weight_column(column) if self._weighted else None
        return math.isfinite(row[column]) or (place is not None and row[place] == 0)

    def _means(self, start: int) -> dict[str, float]:
        rows, sizes = self._rows[start:], self._sizes[start:]
        means = {}
        for column, name in enumerate(self._names):
            place = self._weight_column(column)
            weights = sizes if place is None else [row[place] for row in rows]
            total = math.fsum(weights)
            if total:
                pairs = zip(rows, weights, strict=True)
                means[name] = math.fsum(row[column] * w for row, w in pairs if w) / total
        return means

    def state_dict(self) -> dict[str, Any]:
        """Everything, as a table of numbers; nothing may be pending."""
        assert not self._pending, "read before you save"
        return {
            "names": self._names,
            "weighted": self._weighted,
            "rows": torch.tensor(self._rows, dtype=torch.float64),
            "sizes": torch.tensor(self._sizes, dtype=torch.int64),
            "window_start": self._window_start,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._names, self._weighted = list(state["names"]), list(state["weighted"])
        self._rows = state["rows"].tolist()
        self._sizes = state["sizes"].tolist()
        self._window_start = state["window_start"]


def _number(value: Tensor) -> Tensor:
    """``value`` as floating point; float64 stays as wide as it is."""
    return value if value.is_floating_point() else value.float()
