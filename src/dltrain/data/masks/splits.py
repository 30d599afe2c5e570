"""The rows of a split of images and masks, in memory or in files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import Stream
from dltrain.data.masks.store import StoredMasks
from dltrain.data.streams.hashes import Hashes, hashes_of, stored_hashes
from dltrain.data.streams.in_memory import Batching, InMemory, Split
from dltrain.data.streams.on_disk import FileStream

HASHED = ("input", "target")
"""What tells examples from others; the rest is made of it."""


class MaskRows(InMemory):
    """Rows that lie in memory; ``pixels`` (rows, classes) counts those of each class."""

    def __init__(self, columns: Mapping[str, Tensor], pixels: Tensor) -> None:
        super().__init__(columns)
        self.pixels = pixels

    def only(self, rows: Tensor) -> MaskRows:
        return MaskRows(super().only(rows).columns, self.pixels[rows])

    def hashes(self) -> dict[str, Hashes]:
        return {name: hashes_of(self.columns[name]) for name in HASHED}


class StoredRows(Split):
    """Rows that stay in files, ``rows`` (None: all) of them; no column lies in memory."""

    def __init__(
        self, files: Mapping[str, Path], rows: Tensor | None, pixels: Tensor, workers: int
    ) -> None:
        self._files, self._rows, self._workers = files, rows, workers
        self.pixels = pixels
        self.columns = {}

    def __len__(self) -> int:
        return len(self.pixels)

    def only(self, rows: Tensor) -> StoredRows:
        chosen = rows if self._rows is None else self._rows[rows]
        return StoredRows(self._files, chosen, self.pixels[rows], self._workers)

    def stream(self, batching: Batching) -> Stream:
        return FileStream(self._files, self._rows, batching, self._workers)

    def hashes(self) -> dict[str, Hashes]:
        found = {name: stored_hashes(self._files[name]) for name in HASHED}
        if self._rows is None:
            return found
        rows = self._rows.numpy()
        return {name: hashes[rows] for name, hashes in found.items()}


def opened(stored: StoredMasks, streamed: bool, workers: int) -> MaskRows | StoredRows:
    """The rows of a split, in memory unless they are to be streamed."""
    pixels = torch.from_numpy(stored.pixels)
    if streamed:
        return StoredRows(stored.files, None, pixels, workers)
    columns = {name: torch.from_numpy(np.load(path)) for name, path in stored.files.items()}
    return MaskRows(columns, pixels)
