"""Rows of a table that is kept small until its features are scaled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.data import Stream
from dltrain.data.streams.hashes import Hashes, hashes_of
from dltrain.data.streams.in_memory import Batching, InMemory, Split
from dltrain.data.tables.encoding import Scaling, learn_scaling
from dltrain.data.tables.features import Block

CHUNK = 1 << 16
"""Rows that are made into feature vectors at once."""


class TableRows(Split):
    """Some ``rows`` of a table, whose feature columns are ``blocks``; ``targets`` are of all rows.

    Many levels are many features: that many numbers a row are held only once, as float32.
    """

    def __init__(self, blocks: Sequence[Block], targets: Tensor, rows: NDArray[Any]) -> None:
        self._blocks, self._targets, self.rows = blocks, targets, rows
        self.columns = {"target": targets[torch.from_numpy(rows)]}

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, rows: Tensor) -> TableRows:
        """Those of the rows given."""
        return TableRows(self._blocks, self._targets, self.rows[rows.numpy()])

    def learn_scaling(self, unscaled: Sequence[int], standardize: bool) -> Scaling:
        """Learn from these rows by what all are scaled; a column at a time."""
        fill: list[float] = []
        mean: list[float] = []
        std: list[float] = []
        for block in self._blocks:
            skipped = [i for i in range(block.features) if len(fill) + i in unscaled]
            learned = learn_scaling(partial(self._chunks, block), skipped, standardize)
            fill += learned.fill
            mean += learned.mean
            std += learned.std
        return Scaling(fill, mean, std)

    def hashes(self) -> dict[str, Hashes]:
        """Of each feature column, and of the target."""
        found = super().hashes()
        for number, block in enumerate(self._blocks):
            parts = [hashes_of(chunk) for chunk in self._chunks(block)]
            found[f"input {number:06}"] = np.concatenate(parts) if parts else np.empty(0, "u8")
        return found

    def inputs(self, scaling: Scaling) -> Tensor:
        """The feature vectors (rows, features) that a network reads, float32."""
        found = torch.empty(len(self.rows), sum(block.features for block in self._blocks))
        low = 0
        for block in self._blocks:
            high = low + block.features
            part, start = scaling.part(low, high), 0
            for chunk in self._chunks(block):
                found[start : start + len(chunk), low:high] = part(chunk)
                start += len(chunk)
            low = high
        return found

    def _chunks(self, block: Block) -> Iterator[Tensor]:
        """The features of a column (n, features), float64, some rows at a time."""
        for start in range(0, len(self.rows), CHUNK):
            yield torch.from_numpy(block.rows(self.rows[start : start + CHUNK]))

    def stream(self, batching: Batching) -> Stream:
        """Batches of them as they are, not scaled."""
        return InMemory({"input": self.inputs(Scaling()), **self.columns}).stream(batching)
