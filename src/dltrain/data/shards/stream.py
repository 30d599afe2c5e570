"""Batches of examples that lie in shards: read, shuffled and decoded beside the training step."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.data import Batch, Stream, position_seed
from dltrain.data.shards.lanes import Contents, Encoded, Lanes, RefusedError, length_of
from dltrain.data.shards.order import FEW, Cut, Deal, Epoch, Order
from dltrain.data.shards.pieces import Part
from dltrain.data.streams.in_memory import Prepare
from dltrain.data.streams.on_disk import copied_ahead
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

AHEAD = 3
"""Batches that are decoded before they are asked for."""
READERS = 2
"""Threads that read what is to be decoded."""
SHOWN = 5


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
    memory: int = 48 << 20
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
        most = min(int((part.counts > 0).sum()), max(1, how.memory // part.shards.held))
        lanes = min(how.lanes, most) if how.seed is not None else 1
        buffer = how.buffer if how.seed is not None else how.size
        self._order = Order(part.counts, how.seed, lanes, max(1, buffer // lanes))
        few = max(FEW, how.deal.world) if how.seed is not None else 1
        self._cut = Cut(self._order.count, how.size, few)
        self.divided = how.deal.world > 1 and how.seed is not None
        """Whether each process has rows of its own of each batch, as it has where it trains."""
        self._generator = torch.Generator(how.device) if how.seed is not None else None
        self._left_out: dict[int, str] = {}
        self._told = 0

    @property
    def steps_per_epoch(self) -> int:
        return self._cut.batches

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
        numbers = range(start, self.steps_per_epoch)
        for position, batch in zip(numbers, self._gathered(epoch, numbers), strict=True):
            if draw is not None:
                draw.begin(position)
            if not _length(batch):
                batch = self._stand_in(epoch, position, batch)
            yield self._how.prepare(batch, draw)

    def plain(self) -> Iterator[Batch]:
        return (batch for _, batch in self.dealt(0, 1))

    def dealt(self, rank: int, world: int) -> Iterator[tuple[int, Batch]]:
        """Every ``world``-th batch of :meth:`plain` from number ``rank`` on, with its number.

        All of them, where this process has rows of its own in each. No other one is decoded. One
        of which nothing can be read is left out, but where others wait for this process's part.
        """
        numbers = range(self.steps_per_epoch) if self.divided else None
        numbers = numbers or range(rank, self.steps_per_epoch, world)
        found = False
        for number, batch in zip(numbers, self._gathered(0, numbers), strict=True):
            if _length(batch):
                found = True
                yield number, self._how.prepare(batch, None)
            elif self.divided:
                raise self._unreadable(0, number)
        if len(numbers) and not found and world == 1:
            raise UserError(f"data: not one of {self.examples:,} examples can be read.")

    def rows(self, epoch: int, position: int) -> Tensor:
        """Those of a batch that has been handed out: without what could not be read."""
        found = self._order.epoch(epoch).rows(self._places(position))
        if self._left_out:
            found = found[[row not in self._left_out for row in found.tolist()]]
        return torch.from_numpy(found).to(self._how.device)

    def whole(self, epoch: int, position: int) -> int:
        """If all can be read."""
        low, high = self._cut.bounds(position)
        return high - low

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
        bounds = self._cut.bounds(position)
        return self._how.deal.own(*bounds) if self.divided else range(*bounds)

    def _stand_in(self, epoch: int, position: int, batch: Batch) -> Batch:
        """A row of zeros, to be weighed by 0, where other processes have rows of the batch."""
        if not self.divided:
            raise self._unreadable(epoch, position)
        return {name: column.new_zeros((1, *column.shape[1:])) for name, column in batch.items()}

    def _unreadable(self, epoch: int, position: int) -> UserError:
        """Of a batch nothing can be read."""
        places = self._places(position)
        row = int(self._order.epoch(epoch).rows(places)[0])
        return UserError(
            f"data: of the {len(places):,} examples of a batch not one can be read, "
            f"{self._part.located(row)} among them. Raise data.batch_size, or take them away."
        )

    def _gathered(self, epoch: int, numbers: range) -> Iterator[Batch]:
        batches = self._decoded(self._order.epoch(epoch), numbers)
        if self._how.device.type == "cuda":
            pinned = ({n: c.pin_memory() for n, c in batch.items()} for batch in batches)
            yield from copied_ahead(pinned, self._how.device)
        else:
            yield from batches

    def _decoded(self, epoch: Epoch, numbers: range) -> Iterator[Batch]:
        """The batches of these numbers, on the CPU."""
        workers = max(1, self._how.workers)
        readers, decoders = ThreadPoolExecutor(READERS), ThreadPoolExecutor(workers)
        try:
            lanes = Lanes(epoch, self._part, self._contents, self._how.memory, readers)
            ahead: deque[tuple[range, list[tuple[int, Future[_Decoded]]]]] = deque()
            waiting = map(self._places, numbers)
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
        return {name: torch.cat([batch[name] for batch in found]) for name in found[0]}

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


def _length(batch: Batch) -> int:
    return len(next(iter(batch.values())))


def _parts(examples: Encoded, step: int) -> Iterator[tuple[int, Encoded]]:
    for low in range(0, length_of(examples), step):
        yield low, {name: column[low : low + step] for name, column in examples.items()}
