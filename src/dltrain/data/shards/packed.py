"""Contents of files in one piece of memory, which goes back to the system as a whole.

A buffer of thousands of ``bytes`` would leave holes between what else a process holds, and it would
grow over many of them.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Packed:
    """Files' contents: number n is ``content`` from ``starts[n]`` to below ``ends[n]``."""

    def __init__(
        self, content: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
    ) -> None:
        self._content, self._starts, self._ends = content, starts, ends

    @classmethod
    def of(cls, column: Any) -> Packed:
        """Those of an arrow column of binary; what is null is empty."""
        import pyarrow as pa

        array = column.cast(pa.large_binary()).fill_null(b"")
        _, offsets, content = array.buffers()
        if not len(array) or content is None:
            nothing = np.zeros(len(array), np.int64)
            return cls(np.empty(0, np.uint8), nothing, nothing)
        bounds = np.frombuffer(offsets, np.int64, len(array) + 1, 8 * array.offset)
        return cls(np.frombuffer(content, np.uint8), bounds[:-1], bounds[1:])

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[bytes]:
        for file in self.files():
            yield file.tobytes()

    def files(self) -> Iterator[NDArray[np.uint8]]:
        """Each file's content, where it lies."""
        for start, end in zip(self._starts.tolist(), self._ends.tolist(), strict=True):
            yield self._content[start:end]

    def pieces(self) -> Iterator[NDArray[np.uint8]]:
        """All contents in order: those that lie one after another as one."""
        if not len(self):
            return
        gaps = np.flatnonzero(self._starts[1:] != self._ends[:-1])
        firsts, lasts = np.append(0, gaps + 1), np.append(gaps, len(self) - 1)
        bounds = zip(self._starts[firsts].tolist(), self._ends[lasts].tolist(), strict=True)
        for start, end in bounds:
            yield self._content[start:end]

    def tensor(self) -> tuple[Tensor, list[int]]:
        """All contents as bytes (n,), one after another, and how long each is."""
        pieces = list(self.pieces())
        whole = pieces[0] if len(pieces) == 1 else together([self])._content
        return torch.from_numpy(
            whole if whole.flags.writeable else whole.copy()
        ), self.sizes.tolist()

    @property
    def nbytes(self) -> int:
        """How long they are together."""
        return int(self.sizes.sum())

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How long each is."""
        return self._ends - self._starts

    def __getitem__(self, which: NDArray[np.int64] | slice) -> Packed:
        """Some of them, where they lie."""
        return Packed(self._content, self._starts[which], self._ends[which])


def together(parts: Sequence[Packed], order: NDArray[np.int64] | None = None) -> Packed:
    """The files of all parts, in ``order``, copied into one piece that holds nothing else."""
    sizes = np.concatenate([part.sizes for part in parts])
    if order is None:
        pieces = [piece for part in parts for piece in part.pieces()]
    else:
        files = [file for part in parts for file in part.files()]
        pieces, sizes = [files[number] for number in order.tolist()], sizes[order]
    ends = sizes.cumsum()
    content = _memory(int(ends[-1]) if len(ends) else 0)
    if pieces:
        np.concatenate(pieces, out=content)
    return Packed(content, ends - sizes, ends)


def _memory(size: int) -> NDArray[np.uint8]:
    """Memory of the system's own, in whole pages; of little, as ever."""
    if size < mmap.PAGESIZE * 64:
        return np.empty(size, np.uint8)
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)
