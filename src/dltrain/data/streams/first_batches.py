"""A few batches, over and over: a network that cannot overfit them has a fault."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from torch import Tensor

from dltrain.contracts.data import Batch, Stream


class FirstBatches(Stream):
    """The first ``count`` batches of another stream's first epoch, the same ones every epoch."""

    def __init__(self, stream: Stream, count: int) -> None:
        self._stream, self.divided = stream, stream.divided
        self._kept = list(islice(stream.batches(0), count))
        self._rows = [stream.rows(0, position) for position in range(len(self._kept))]

    @property
    def steps_per_epoch(self) -> int:
        """Batches kept."""
        return len(self._kept)

    @property
    def examples(self) -> int:
        return sum(len(rows) for rows in self._rows)

    @property
    def smallest_batch(self) -> int:
        """Examples in the smallest batch kept."""
        return min(len(rows) for rows in self._rows)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter(self._kept[start:])

    def plain(self) -> Iterator[Batch]:
        """The same examples, not augmented."""
        return islice(self._stream.plain(), len(self._kept))

    def first(self) -> Batch:
        return self._stream.first()

    def rows(self, epoch: int, position: int) -> Tensor:
        """The examples of a kept batch in the underlying split."""
        return self._rows[position]
