"""How much reward the episodes of an evaluation had."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Metric, Mode, Outputs

if TYPE_CHECKING:
    from typing_extensions import Self


class Returns(Metric):
    """``return``, the mean over episodes of the sum of all rewards, undiscounted.

    Beside it ``return_std`` (population), ``return_min`` and ``return_max``, and ``length``, the
    mean number of steps. Columns ``return`` and ``length`` (episodes,) of a batch.
    """

    names = ("return", "return_std", "return_min", "return_max", "length")
    better: Mapping[str, Mode] = MappingProxyType(
        {"return": "max", "return_min": "max", "return_max": "max", "return_std": "min"}
    )

    def __init__(self) -> None:
        self._returns: list[Tensor] = []
        self._lengths: list[Tensor] = []

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep both columns."""
        self._returns.append(batch["return"])
        self._lengths.append(batch["length"])

    def merge(self, other: Self) -> None:
        """Keep the other's episodes."""
        self._returns += other._returns
        self._lengths += other._lengths

    def compute(self) -> Evaluation:
        """Over all episodes alike."""
        returns, lengths = torch.cat(self._returns).double(), torch.cat(self._lengths).double()
        values = {
            "return": returns.mean(),
            "return_std": returns.std(correction=0),
            "return_min": returns.min(),
            "return_max": returns.max(),
            "length": lengths.mean(),
        }
        count = len(returns)
        return Evaluation(
            scalars={name: float(value) for name, value in values.items()},
            weights={"return": count, "length": count},
        )

    def state_dict(self) -> dict[str, Any]:
        """Both columns."""
        return {"returns": list(self._returns), "lengths": list(self._lengths)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those."""
        self._returns, self._lengths = list(state["returns"]), list(state["lengths"])
