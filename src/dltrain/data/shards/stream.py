"""Batches of examples that lie in shards: read, shuffled and decoded beside the training step."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.data import Batch, Stream, position_seed
from dltrain.data.shards.order import Cut, Deal, Epoch, Order
from dltrain.data.shards.packed import Packed, together
from dltrain.data.shards.pieces import Part
from dltrain.data.streams.in_memory import Prepare
from dltrain.data.streams.on_disk import copied_ahead
from dltrain.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

AHEAD = 3
"""Batches that are decoded before they are asked for."""
READERS = 2
"""Threads that read what is to be decoded."""
MOST = 8
"""Times the bytes that a buffer should have, from which on it is refused: sizes are estimates."""
SHOWN = 5

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


@dataclass(frozen=True)
class Streaming:
    """How examples are handed out, for a :class:`ShardStream`.

    ``buffer`` examples are shuffled at a time, by ``seed`` (None: as they lie, nothing is drawn),
    from ``lanes`` places of the shards side by side; they should have ``memory`` bytes at most.
    ``workers`` threads decode.
    """

    size: int
    device: torch.device
    prepare: Prepare
    seed: int | None = None
    buffer: int = 1
    lanes: int = 1
    memory: int = 1 << 26
    workers: int = 2
    deal: Deal = field(default_factory=Deal)


class ShardStream(Stream):
    """The examples of a part of shards.

    What is read ahead depends on ``(seed, epoch, position)`` alone, so there is nothing to keep of
    it: a stream that goes on at a batch fills its buffers again as they were.
    """

    def __init__(self, part: Part, contents: Contents, how: Streaming) -> None:
        self._part, self._contents, self._how = part, contents, how
        # A piece is read from its beginning by each lane that begins within it.
        lanes = min(how.lanes, int((part.counts > 0).sum())) if how.seed is not None else 1
        buffer = how.buffer if how.seed is not None else how.size
        self._order = Order(part.counts, how.seed, lanes, max(1, buffer // lanes))
        self._cut = Cut(self._order.count, how.size, how.deal.world, whole=how.seed is None)
        self._generator = torch.Generator(how.device) if how.seed is not None else None
        self._left_out: dict[int, str] = {}
        self._told = 0

    @property
    def steps_per_epoch(self) -> int:
        every = self._how.deal.world if self._cut.whole else 1
        return self._cut.batches // every

    @property
    def examples(self) -> int:
        return self._order.count

    @property
    def smallest_batch(self) -> int:
        """Examples of this process in the smallest batch, if all can be read."""
        ends = {0, self._cut.batches - 1}
        return min(len(self._places(position)) for position in ends) if self._order.count else 0

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Read and decode ahead, in threads; prepare one batch after another."""
        draw = None if self._generator is None else _Draw(self, self._generator, epoch)
        for position, batch in enumerate(self._gathered(epoch, start), start):
            if draw is not None:
                draw.begin(position)
            yield self._how.prepare(batch, draw)

    def plain(self) -> Iterator[Batch]:
        for batch in self._gathered(0, 0):
            yield self._how.prepare(batch, None)

    def rows(self, epoch: int, position: int) -> Tensor:
        """Those of a batch that has been handed out: without what could not be read."""
        found = self._order.epoch(epoch).rows(self._places(position))
        if self._left_out:
            found = found[[row not in self._left_out for row in found.tolist()]]
        return torch.from_numpy(found).to(self._how.device)

    @property
    def seed(self) -> int:
        """By which it is shuffled."""
        return self._how.seed or 0

    @property
    def deal(self) -> Deal:
        """Which part of each batch is this process's."""
        return self._how.deal

    def _places(self, position: int) -> range:
        """Where in the epoch's order the examples of this process's batch stand."""
        deal = self._how.deal
        if self._cut.whole:
            return range(*self._cut.bounds(position * deal.world + deal.rank))
        return deal.own(*self._cut.bounds(position))

    def _gathered(self, epoch: int, start: int) -> Iterator[Batch]:
        batches = self._decoded(self._order.epoch(epoch), start)
        if self._how.device.type == "cuda":
            pinned = ({n: c.pin_memory() for n, c in batch.items()} for batch in batches)
            yield from copied_ahead(pinned, self._how.device)
        else:
            yield from batches

    def _decoded(self, epoch: Epoch, start: int) -> Iterator[Batch]:
        """Batches on the CPU, from number ``start`` on."""
        workers = max(1, self._how.workers)
        readers, decoders = ThreadPoolExecutor(READERS), ThreadPoolExecutor(workers)
        try:
            lanes = _Lanes(epoch, self._part, self._contents, self._how.memory, readers)
            ahead: deque[tuple[range, list[tuple[int, Future[_Decoded]]]]] = deque()
            waiting = (self._places(position) for position in range(start, self.steps_per_epoch))
            while True:
                for places in islice(waiting, AHEAD - len(ahead)):
                    examples = lanes.take(places)
                    step = -(-len(places) // workers)
                    ahead.append(
                        (
                            places,
                            [
                                (low, decoders.submit(self._contents.decoded, part))
                                for low, part in _parts(examples, step)
                            ],
                        )
                    )
                if not ahead:
                    return
                yield self._joined(epoch, *ahead.popleft())
        finally:
            readers.shutdown(wait=False, cancel_futures=True)
            decoders.shutdown(wait=False, cancel_futures=True)

    def _joined(
        self, epoch: Epoch, places: range, parts: Sequence[tuple[int, Future[_Decoded]]]
    ) -> Batch:
        found = []
        for low, part in parts:
            try:
                batch, left_out = part.result()
            except RefusedError as error:
                row = int(epoch.rows(places)[low + error.index])
                raise UserError(f"{self._part.located(row)} {error}") from error
            if left_out:
                self._note(epoch.rows(places), {low + at: why for at, why in left_out.items()})
            found.append(batch)
        whole = {name: torch.cat([batch[name] for batch in found]) for name in found[0]}
        if not len(next(iter(whole.values()))):
            raise UserError("data: not one example of a batch can be read.")
        return whole

    def _note(self, rows: NDArray[np.int64], left_out: Mapping[int, str]) -> None:
        """Remember, and say, what is left out."""
        for at, why in left_out.items():
            row = int(rows[at])
            if row in self._left_out:
                continue
            self._left_out[row] = why
            count = len(self._left_out)
            if count <= SHOWN or count & (count - 1) == 0:
                logger.warning(
                    "left out: %s %s (%d so far, of %s).",
                    *(self._part.located(row), why, count, f"{self.examples:,}"),
                )


_Decoded = tuple[Batch, Mapping[int, str]]


class _Draw:
    """A :class:`~dltrain.contracts.data.Draw`; each process draws for its own rows."""

    final = False

    def __init__(self, stream: ShardStream, generator: torch.Generator, epoch: int) -> None:
        self.seed, self.epoch = stream.seed, epoch
        self._stream, self._generator = stream, generator
        self._position, self._seeded = 0, False

    def begin(self, position: int) -> None:
        """Go to batch number ``position``."""
        self._position, self._seeded = position, False

    @property
    def generator(self) -> torch.Generator:
        """On the device."""
        if not self._seeded:
            deal = self._stream.deal
            place = self._position * deal.world + deal.rank
            self._generator.manual_seed(position_seed(self.seed, self.epoch, place))
            self._seeded = True
        return self._generator

    @property
    def rows(self) -> Tensor:
        """On the device."""
        return self._stream.rows(self.epoch, self._position)


class _Lanes:
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
        together = _concatenated(parts)
        back = at.argsort()
        return {name: column[back] for name, column in together.items()}


class _Lane:
    def __init__(
        self, epoch: Epoch, reader: _Reader, pool: ThreadPoolExecutor, number: int
    ) -> None:
        self._epoch, self._reader, self._pool = epoch, reader, pool
        self._number = number - 1
        self._filled: Encoded = {}
        self._next = pool.submit(reader.fill, number)

    def take(self, own: NDArray[np.int64]) -> Encoded:
        """The examples with these numbers, which rise from one call to the next."""
        buffers, within = np.divmod(own, self._epoch.order.buffer)
        parts = []
        for number in range(int(buffers[0]), int(buffers[-1]) + 1):
            while self._number < number:
                self._advance()
            order = self._epoch.shuffled(self._reader.lane, number)
            chosen = order[within[buffers == number]]
            parts.append({n: _copied(c, chosen) for n, c in self._filled.items()})
        return _concatenated(parts)

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
        parts, count, size = [*self._rest], sum(map(_length, self._rest)), 0
        while count < high - low:
            parts.append(next(self._flow))
            count += _length(parts[-1])
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


def _parts(examples: Encoded, step: int) -> Iterator[tuple[int, Encoded]]:
    for low in range(0, _length(examples), step):
        yield low, {name: column[low : low + step] for name, column in examples.items()}


def _concatenated(parts: Sequence[Encoded]) -> Encoded:
    if len(parts) == 1:
        return parts[0]
    return {name: _joined([part[name] for part in parts]) for name in parts[0]}


def _joined(columns: Sequence[Any]) -> NDArray[Any] | Packed:
    return together(columns) if isinstance(columns[0], Packed) else np.concatenate(columns)


def _copied(column: NDArray[Any] | Packed, which: NDArray[Any] | slice) -> NDArray[Any] | Packed:
    """Some of a column, which hold no more than themselves in memory."""
    return together([column[which]]) if isinstance(column, Packed) else column[which].copy()


def _length(examples: Encoded) -> int:
    return len(next(iter(examples.values())))
