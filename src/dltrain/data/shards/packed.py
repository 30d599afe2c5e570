"""Contents of files in one piece of memory, which goes back to the system as a whole.

A buffer of thousands of ``bytes`` would leave holes between what else a process holds, and it would
grow over many of them.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


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

    @property
    def nbytes(self) -> int:
        """How long they are together."""
        return int((self._ends - self._starts).sum())

    def __getitem__(self, which: NDArray[np.int64] | slice) -> Packed:
        """Some of them, where they lie."""
        return Packed(self._content, self._starts[which], self._ends[which])


def together(parts: Sequence[Packed]) -> Packed:
    """The files of all parts, copied into one piece that holds nothing else."""
    files = [file for part in parts for file in part.files()]
    ends = np.cumsum([len(file) for file in files], dtype=np.int64)
    content = _memory(int(ends[-1]) if files else 0)
    if files:
        np.concatenate(files, out=content)
    return Packed(content, np.concatenate([np.zeros(min(1, len(ends)), np.int64), ends[:-1]]), ends)


def _memory(size: int) -> NDArray[np.uint8]:
    """Memory of the system's own, in whole pages; of little, as ever."""
    if size < mmap.PAGESIZE * 64:
        return np.empty(size, np.uint8)
    return np.frombuffer(mmap.mmap(-1, size), np.uint8)
