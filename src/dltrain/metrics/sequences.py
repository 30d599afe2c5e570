"""Sequences of ids, of different lengths, of every example of a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dltrain.metrics.accumulators import Accumulator


class Sequences(Accumulator):
    """Columns (n, steps) of ids, each batch padded to its own longest with ``fill``."""

    def __init__(self, fill: int) -> None:
        self._fill = fill
        self._rows: list[Tensor] = []
        self._columns: list[list[Tensor]] = []

    def add(self, rows: Tensor, *columns: Tensor) -> None:
        """Keep a batch: ``columns`` (n, steps) of the examples ``rows`` (n,)."""
        self._rows.append(rows)
        self._columns.append(list(columns))

    def found(self) -> list[list[list[int]]]:
        """Of each column the ids of each example, without padding, in the split's order."""
        assert self._rows, "an empty split"
        order = torch.cat([part.cpu() for part in self._rows]).argsort().tolist()
        columns = []
        for parts in zip(*self._columns, strict=True):
            ids = [
                [number for number in row if number != self._fill]
                for part in parts
                for row in part.tolist()
            ]
            columns.append([ids[place] for place in order])
        return columns

    def merge(self, other: Sequences) -> None:
        """Take in the other's examples."""
        self._rows += other._rows
        self._columns += other._columns

    def state_dict(self) -> dict[str, Any]:
        """All of them."""
        return {"rows": list(self._rows), "columns": [list(part) for part in self._columns]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those."""
        self._rows = list(state["rows"])
        self._columns = [list(part) for part in state["columns"]]
