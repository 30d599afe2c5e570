"""Which rows of a batch are whose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor

from dltrain.contracts.data import Batch, Stream

Note = Callable[[int, int], None]
"""Told before a batch is handed out: how many rows of it are this rank's, and how many it has."""


def rows_of(count: int, rank: int, world: int) -> tuple[int, int]:
    """Where the rows of ``rank`` begin and end, of ``count``: one after the other, about as many.

    A rank without a row of its own (fewer rows than ranks) has an empty range.
    """
    return count * rank // world, count * (rank + 1) // world


class OfStream(Stream):
    """A stream that hands out the batches of another: as many, of as many examples."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @property
    def steps_per_epoch(self) -> int | None:
        return self._stream.steps_per_epoch

    @property
    def examples(self) -> int | None:
        return self._stream.examples

    def scalars(self) -> Mapping[str, float]:
        return self._stream.scalars()

    def state_dict(self) -> dict[str, Any]:
        return self._stream.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._stream.load_state_dict(state)


class Divided(OfStream):
    """A stream whose batches are this rank's already.

    ``note`` is told how many rows of a batch are this rank's and how many it has on all ranks;
    ``note_own`` the former, where the stream does not know the latter.
    """

    divided = True

    def __init__(self, stream: Stream, note: Note, note_own: Callable[[int], None]) -> None:
        super().__init__(stream)
        self._note, self._note_own = note, note_own

    @property
    def smallest_batch(self) -> int | None:
        return self._stream.smallest_batch

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for position, batch in enumerate(self._stream.batches(epoch, start), start):
            rows, whole = len(next(iter(batch.values()))), self._stream.whole(epoch, position)
            if rows == 1:
                # It may stand in for rows that cannot be read.
                rows = len(self._stream.rows(epoch, position))
            if whole is None:
                self._note_own(rows)
            else:
                self._note(rows, whole)
            yield batch

    def plain(self) -> Iterator[Batch]:
        return self._stream.plain()

    def first(self) -> Batch:
        return self._stream.first()

    def rows(self, epoch: int, position: int) -> Tensor:
        return self._stream.rows(epoch, position)

    def whole(self, epoch: int, position: int) -> int | None:
        return self._stream.whole(epoch, position)


class Shard(OfStream):
    """One rank's rows of each batch of ``stream``, which draws as in one process.

    So what is augmented, and what is mixed with what, is as one process has it, whatever the world.
    A rank without a row of its own is given one that is another's, to be weighed by 0: it takes
    part in every step.
    """

    def __init__(self, stream: Stream, rank: int, world: int, note: Note) -> None:
        super().__init__(stream)
        self._rank, self._world, self._note = rank, world, note

    @property
    def smallest_batch(self) -> int | None:
        """Of any rank."""
        smallest = self._stream.smallest_batch
        return None if smallest is None else max(1, smallest // self._world)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return map(self._own, self._stream.batches(epoch, start))

    def plain(self) -> Iterator[Batch]:
        return map(self._own, self._stream.plain())

    def rows(self, epoch: int, position: int) -> Tensor:
        rows = self._stream.rows(epoch, position)
        low, high = rows_of(len(rows), self._rank, self._world)
        return rows[low : max(high, low + 1)]

    def _own(self, batch: Batch) -> Batch:
        count = len(next(iter(batch.values())))
        low, high = rows_of(count, self._rank, self._world)
        self._note(high - low, count)
        return {name: column[low : max(high, low + 1)] for name, column in batch.items()}
