"""Rows of a table that is kept small until its features are scaled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.data import Stream
from dltrain.data.streams.hashes import Hashes, hashes_of
from dltrain.data.streams.in_memory import Batching
from dltrain.data.streams.splits import InMemory, Split
from dltrain.data.tables.encoding import Scaling
from dltrain.data.tables.features import Block, stacked

CHUNK = 1 << 16
"""Rows that are made into feature vectors at once."""


class TableRows(Split):
    """Some ``rows`` of a table, whose feature columns are ``blocks``; ``targets`` are of all rows.

    Many levels are many features: that many numbers a row are held only once, as float32.
    """

    def __init__(self, blocks: Sequence[Block], targets: Tensor, rows: NDArray[Any]) -> None:
        self._blocks, self._targets, self._rows = blocks, targets, rows
        self.columns = {"target": targets[torch.from_numpy(rows)]}

    def __len__(self) -> int:
        return len(self._rows)

    def only(self, rows: Tensor) -> TableRows:
        """Those of the rows given."""
        return TableRows(self._blocks, self._targets, self._rows[rows.numpy()])

    def chunks(self) -> Iterator[Tensor]:
        """The feature vectors (n, features), float64, some rows at a time."""
        for start in range(0, len(self._rows), CHUNK):
            yield stacked(self._blocks, self._rows[start : start + CHUNK])

    def hashes(self) -> dict[str, Hashes]:
        """Of the feature vectors, and of the target."""
        found = [hashes_of(chunk) for chunk in self.chunks()]
        return super().hashes() | {"input": np.concatenate(found) if found else np.empty(0, "u8")}

    def inputs(self, scaling: Scaling) -> Tensor:
        """The feature vectors (rows, features) that a network reads, float32."""
        found = torch.empty(len(self._rows), len(scaling.fill or scaling.mean))
        start = 0
        for chunk in self.chunks():
            found[start : start + len(chunk)] = scaling(chunk)
            start += len(chunk)
        return found

    def stream(self, batching: Batching) -> Stream:
        """Batches of them as they are, not scaled."""
        return InMemory({"input": self.inputs(Scaling()), **self.columns}).stream(batching)
