"""The lanes of an epoch: what is read of shards fills buffers, and is handed out of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dltrain.contracts.data import Batch
from dltrain.data.shards.order import Epoch
from dltrain.data.shards.packed import Packed, together
from dltrain.data.shards.pieces import Part
from dltrain.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

MOST = 8
"""Times the bytes that a buffer should have, from which on it is refused: sizes are estimates."""

Place = Callable[[int], str]
Encoded = dict[str, NDArray[Any] | Packed]
"""Columns of some examples (examples, …), as they are kept until a batch needs them."""


class RefusedError(Exception):
    """An example, the ``index``-th of some, that ends the run; says why."""

    def __init__(self, index: int, why: str) -> None:
        super().__init__(why)
        self.index = index


class Contents(ABC):
    """What rows of shards become, in threads: examples kept small, and then batches."""

    columns: Sequence[str]
    """Those that are read."""
    size: int = 0
    """About how many bytes an example has, where that is not what the shards say."""

    @abstractmethod
    def encoded(self, rows: pa.RecordBatch, place: Place) -> Encoded:
        """What is kept of some rows, of which ``place`` says what to call one in a message."""

    def decoded(self, examples: Encoded) -> tuple[Batch, Mapping[int, str]]:
        """What a network reads of them, on the CPU; and which are left out, and why.

        Raises :class:`RefusedError`.
        """
        arrays = {n: c for n, c in examples.items() if isinstance(c, np.ndarray)}
        return {name: torch.from_numpy(column) for name, column in arrays.items()}, {}


class Lanes:
    """The lanes of an epoch, each with a buffer to hand out, and the next being filled."""

    def __init__(
        self, epoch: Epoch, part: Part, contents: Contents, memory: int, pool: ThreadPoolExecutor
    ) -> None:
        self._epoch, self._pool = epoch, pool
        self._part, self._contents = part, contents
        self._most = MOST * max(1, memory // epoch.order.lanes)
        self._lanes: dict[int, _Lane] = {}

    def take(self, places: range) -> Encoded:
        """The examples that stand there in the epoch's order."""
        wanted = self._epoch.places(places)
        buffer = self._epoch.order.buffer
        for lane, own in wanted.items():  # all are filled side by side
            if lane not in self._lanes:
                reader = _Reader(self._epoch, self._part, self._contents, lane, self._most)
                self._lanes[lane] = _Lane(self._epoch, reader, self._pool, int(own[0]) // buffer)
        parts = [self._lanes[lane].take(own) for lane, own in wanted.items()]
        at = np.concatenate([own * self._epoch.order.lanes + n for n, own in wanted.items()])
        order = at.argsort()
        flat = [one for of_lane in parts for one in of_lane]
        return {name: _joined([one[name] for one in flat], order) for name in flat[0]}


class _Lane:
    def __init__(
        self, epoch: Epoch, reader: _Reader, pool: ThreadPoolExecutor, number: int
    ) -> None:
        self._epoch, self._reader, self._pool = epoch, reader, pool
        self._number = number - 1
        self._filled: Encoded = {}
        self._next = pool.submit(reader.fill, number)

    def take(self, own: NDArray[np.int64]) -> list[Encoded]:
        """The examples with these numbers, which rise from one call to the next.

        One after the other; where they lie in buffers, which are to be left soon.
        """
        buffers, within = np.divmod(own, self._epoch.order.buffer)
        parts = []
        for number in range(int(buffers[0]), int(buffers[-1]) + 1):
            while self._number < number:
                self._advance()
            order = self._epoch.shuffled(self._reader.lane, number)
            chosen = order[within[buffers == number]]
            parts.append({name: column[chosen] for name, column in self._filled.items()})
        return parts

    def _advance(self) -> None:
        self._filled = {}
        self._filled = self._next.result()
        self._number += 1
        low, high = self._epoch.window(self._reader.lane, self._number + 1)
        if low < high:
            self._next = self._pool.submit(self._reader.fill, self._number + 1)


class _Reader:
    """Reads what fills the buffers of a lane, one after another."""

    def __init__(self, epoch: Epoch, part: Part, contents: Contents, lane: int, most: int) -> None:
        self.lane = lane
        self._epoch, self._part, self._contents, self._most = epoch, part, contents, most
        self._flow: Iterator[Encoded] | None = None
        self._rest: list[Encoded] = []

    def fill(self, number: int) -> Encoded:
        """What buffer ``number`` holds; the one after the last that was asked for."""
        low, high = self._epoch.window(self.lane, number)
        if self._flow is None:
            self._flow = self._read(low, self._epoch.lane(self.lane)[1])
        parts, count, size = [*self._rest], sum(map(length_of, self._rest)), 0
        while count < high - low:
            parts.append(next(self._flow))
            count += length_of(parts[-1])
            size += sum(column.nbytes for column in parts[-1].values())
            if size > self._most:
                raise UserError(
                    f"data.buffer: {high - low:,} examples of {self._part.shards.names[0]} and the "
                    f"others take more than {size >> 20:,} MiB; set data.buffer lower."
                )
        self._rest = []
        if more := count - (high - low):
            last = parts.pop()
            self._rest = [{n: _copied(c, slice(-more, None)) for n, c in last.items()}]
            parts.append({name: column[:-more] for name, column in last.items()})
        return {n: _joined([part[n] for part in parts]) for n in parts[0]}

    def _read(self, low: int, high: int) -> Iterator[Encoded]:
        for number, first, last in self._epoch.parts(low, high):
            done = 0
            for batch, rows in self._part.read(number, self._contents.columns):
                start, stop = max(first - done, 0), min(last - done, len(rows))
                done += len(rows)
                if start < stop:
                    yield self._encoded(number, batch.slice(start, stop - start), rows[start:])
                if done >= last:
                    break

    def _encoded(self, number: int, batch: pa.RecordBatch, rows: NDArray[np.int64]) -> Encoded:
        shards = self._part.shards
        shard = shards.pieces[number].shard
        return self._contents.encoded(batch, lambda row: shards.place(shard, int(rows[row])))


def _joined(columns: Sequence[Any], order: NDArray[Any] | None = None) -> NDArray[Any] | Packed:
    if isinstance(columns[0], Packed):
        return together(columns, order)
    whole = np.concatenate(columns)
    return whole if order is None else whole[order]


def _copied(column: NDArray[Any] | Packed, which: NDArray[Any] | slice) -> NDArray[Any] | Packed:
    """Some of a column, which hold no more than themselves in memory."""
    return together([column[which]]) if isinstance(column, Packed) else column[which].copy()


def length_of(examples: Encoded) -> int:
    """How many examples there are."""
    return len(next(iter(examples.values())))
