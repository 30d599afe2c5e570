"""Means over the examples of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Metric, Outputs

if TYPE_CHECKING:
    from typing_extensions import Self


class Mean(Metric):
    """The mean over all examples of what ``total`` sums over those of a batch, 0-d.

    A sum a batch is kept, and they are added without rounding.
    """

    def __init__(self, name: str, total: Callable[[Outputs, Batch], Tensor]) -> None:
        self.names = (name,)
        self._total = total
        self._sums: list[Tensor] = []
        self._examples = 0

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the batch's sum."""
        self._sums.append(self._total(outputs, batch))
        self._examples += len(rows)

    def merge(self, other: Self) -> None:
        """Keep the other's sums."""
        self._sums += other._sums
        self._examples += other._examples

    def compute(self) -> Evaluation:
        """The mean."""
        mean = math.fsum(torch.stack(self._sums).tolist()) / self._examples
        name = self.names[0]
        return Evaluation(scalars={name: mean}, weights={name: self._examples})

    def state_dict(self) -> dict[str, Any]:
        """The sums and the number of examples."""
        return {"sums": list(self._sums), "examples": self._examples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those."""
        self._sums, self._examples = list(state["sums"]), state["examples"]


class WeightedMean(Metric):
    """The mean of something else than examples: by the sum and the number that ``total`` gives.

    Both are 0-d. Where there is none of it in a whole split, the mean is no number.
    """

    def __init__(self, name: str, total: Callable[[Outputs, Batch], tuple[Tensor, Tensor]]) -> None:
        self.names = (name,)
        self._total = total
        self._sums: list[Tensor] = []
        self._counts: list[Tensor] = []

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the batch's sum and number."""
        value, count = self._total(outputs, batch)
        self._sums.append(value)
        self._counts.append(count)

    def merge(self, other: Self) -> None:
        """Keep the other's."""
        self._sums += other._sums
        self._counts += other._counts

    def compute(self) -> Evaluation:
        """The mean."""
        count = int(torch.stack(self._counts).sum())
        total = math.fsum(torch.stack(self._sums).tolist())
        name = self.names[0]
        return Evaluation(
            scalars={name: total / count if count else math.nan}, weights={name: count}
        )

    def state_dict(self) -> dict[str, Any]:
        """The sums and the numbers."""
        return {"sums": list(self._sums), "counts": list(self._counts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those."""
        self._sums, self._counts = list(state["sums"]), list(state["counts"])
