"""What training steps returned, kept on the device until somebody reads it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from dltrain.types import Metrics


class History:
    """The metrics of every step since the last evaluation.

    :meth:`add` costs a list append; :meth:`read` fetches all that was added in one transfer.
    Means weigh each batch by its size, so they are exact with a ragged last batch.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._pending: list[Metrics] = []
        self._rows: list[list[float]] = []
        self._sizes: list[int] = []
        self._window_start = 0

    def __bool__(self) -> bool:
        """Whether any step was added since the last :meth:`clear`."""
        return bool(self._sizes)

    def add(self, metrics: Metrics, size: int) -> None:
        """Note one step's metrics, of a batch of ``size``."""
        self._pending.append(metrics)
        self._sizes.append(size)

    def read(self) -> int | None:
        """Fetch what is pending; return how many steps ago the first non-finite value arose."""
        if not self._pending:
            return None
        self._names = list(self._pending[0])
        stacked = torch.stack(
            [step[name].float() for step in self._pending for name in self._names]
        )
        rows = stacked.view(len(self._pending), -1).tolist()
        self._pending.clear()
        self._rows += rows
        for index, row in enumerate(rows):
            if not all(math.isfinite(value) for value in row):
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

    def _means(self, start: int) -> dict[str, float]:
        rows, sizes = self._rows[start:], self._sizes[start:]
        total = sum(sizes)
        return {
            name: math.fsum(row[column] * size for row, size in zip(rows, sizes, strict=True))
            / total
            for column, name in enumerate(self._names)
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything, as a table of numbers; nothing may be pending."""
        assert not self._pending, "read before you save"
        return {
            "names": self._names,
            "rows": torch.tensor(self._rows, dtype=torch.float64),
            "sizes": torch.tensor(self._sizes, dtype=torch.int64),
            "window_start": self._window_start,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._names = list(state["names"])
        self._rows = state["rows"].tolist()
        self._sizes = state["sizes"].tolist()
        self._window_start = state["window_start"]
