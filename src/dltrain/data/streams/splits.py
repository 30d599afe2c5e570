"""The examples of a split, and which of them are set aside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from dltrain.contracts.data import Stream
from dltrain.data.streams.hashes import Hashes, hashes_of
from dltrain.data.streams.in_memory import Batching, TensorStream

TEST_SEED = 0
"""Draws every test split that the data does not bring: the same rows, whatever the run's seed."""


class Split(ABC):
    """The examples of a split, wherever they lie; ``columns`` are those that lie in memory."""

    columns: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.columns["target"])

    @abstractmethod
    def only(self, rows: Tensor) -> Split:
        """Those of the rows given."""

    @abstractmethod
    def stream(self, batching: Batching) -> Stream:
        """Batches of them."""

    def hashes(self) -> dict[str, Hashes]:
        """A hash of each example's value in every column."""
        return {name: hashes_of(column) for name, column in self.columns.items()}


class InMemory(Split):
    """Examples as tensors that share their first dimension."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.columns = columns

    def only(self, rows: Tensor) -> InMemory:
        """Those of the rows given, copied."""
        return InMemory({name: column[rows] for name, column in self.columns.items()})

    def stream(self, batching: Batching) -> Stream:
        """All of them on the device."""
        return TensorStream(self.columns, batching)


def hold_out_test(targets: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Draw a test split of about ``fraction`` of the rows; return the rows left, and its own.

    Where ``targets`` (rows,) are classes (integers), each gives its fraction, rounded, but never
    its last training example.
    """
    groups = torch.zeros(len(targets)) if targets.is_floating_point() else targets
    generator = torch.Generator().manual_seed(TEST_SEED)
    test = torch.zeros(len(targets), dtype=torch.bool)
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        count = min(round(fraction * len(members)), len(members) - 1)
        test[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return (~test).nonzero()[:, 0], test.nonzero()[:, 0]
