"""In which order an epoch hands out examples that lie in pieces: by ``(seed, epoch)`` alone.

Nothing of an example is read, and nothing that grows with their number is kept: which example
stands where is computed from where it stands. So a stream goes on at any batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from dltrain.contracts.data import epoch_seed, position_seed

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Deal:
    """Which part of every batch is that of process number ``rank`` of ``world`` of them."""

    rank: int = 0
    world: int = 1

    def own(self, low: int, high: int) -> range:
        """The places from ``low`` to below ``high`` that are this process's: every so many."""
        return range(low + self.rank, high, self.world)


FEW = 8
"""Examples of a last batch, below which it joins the one before: it would weigh as much as all
others, batch norm learns nothing of one alone, and each process needs its own."""


@dataclass(frozen=True)
class Cut:
    """How ``count`` examples become batches of ``size``, the same ones for up to FEW processes.

    Of more processes (``few``), each has an example of every batch. A last batch of evaluation
    (``few=1``) may be as small as it is.
    """

    count: int
    size: int
    few: int = FEW

    @property
    def batches(self) -> int:
        """How many there are."""
        whole, rest = divmod(self.count, self.size)
        return whole + (rest > 0 and (not whole or rest >= self.few))

    def bounds(self, batch: int) -> tuple[int, int]:
        """Where it begins and ends."""
        low = batch * self.size
        return low, self.count if batch == self.batches - 1 else low + self.size


class Order:
    """The order of ``counts[p]`` examples in each piece ``p``.

    Shuffled (``seed``): the pieces of an epoch come in a random order, and ``lanes`` parts of that
    sequence, as long as each other, are read side by side: the examples of a batch come from the
    lanes in turn. Each lane fills a buffer with its next ``buffer`` examples, and hands them out in
    random order while it fills another one.

    Without a seed the examples come as they lie.
    """

    def __init__(
        self, counts: Numbers, seed: int | None = None, lanes: int = 1, buffer: int = 1
    ) -> None:
        self.counts, self.seed = counts, seed
        self.count = int(counts.sum())
        self.lanes = max(1, min(lanes, self.count)) if seed is not None else 1
        self.buffer = max(1, buffer)
        self.starts = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
        self._latest: tuple[int, Epoch] | None = None

    def epoch(self, number: int) -> Epoch:
        """That of an epoch; the latest one is kept."""
        if self._latest is None or self._latest[0] != number:
            self._latest = number, Epoch(self, number)
        return self._latest[1]


class Epoch:
    """The order of one epoch."""

    def __init__(self, order: Order, number: int) -> None:
        self.order, self.number = order, number
        pieces = np.flatnonzero(order.counts)
        if order.seed is not None:
            generator = torch.Generator().manual_seed(epoch_seed(order.seed, number))
            pieces = pieces[torch.randperm(len(pieces), generator=generator).numpy()]
        self.pieces = pieces
        self.ends = order.counts[pieces].cumsum()
        """Where each piece of the sequence ends in it."""
        self._shuffled: dict[tuple[int, int], Numbers] = {}

    def lane(self, lane: int) -> tuple[int, int]:
        """Where a lane begins and ends in the sequence."""
        each, more = divmod(self.order.count, self.order.lanes)
        low = lane * each + min(lane, more)
        return low, low + each + (lane < more)

    def window(self, lane: int, number: int) -> tuple[int, int]:
        """Where the examples that fill buffer ``number`` of a lane begin and end."""
        low, high = self.lane(lane)
        first = low + number * self.order.buffer
        return first, min(first + self.order.buffer, high)

    def shuffled(self, lane: int, number: int) -> Numbers:
        """In which order a buffer is handed out: places in it."""
        key = lane, number
        if key not in self._shuffled:
            if len(self._shuffled) >= 4 * self.order.lanes:
                self._shuffled.clear()
            low, high = self.window(lane, number)
            self._shuffled[key] = self._permutation(lane, number, high - low)
        return self._shuffled[key]

    def _permutation(self, lane: int, number: int, size: int) -> Numbers:
        if self.order.seed is None:
            return np.arange(size)
        seed = position_seed(epoch_seed(self.order.seed, self.number), lane + 1, number)
        generator = torch.Generator().manual_seed(seed)
        return np.asarray(torch.randperm(size, generator=generator).numpy())

    def places(self, places: range) -> Mapping[int, Numbers]:
        """By lane which of its examples, in the order of handing out, stand at ``places``."""
        all_places = np.arange(places.start, places.stop, places.step)
        lanes = all_places % self.order.lanes
        return {int(one): all_places[lanes == one] // self.order.lanes for one in np.unique(lanes)}

    def rows(self, places: range) -> Numbers:
        """The examples at ``places``, as positions in the split."""
        found = np.empty(len(places), np.int64)
        wanted = np.arange(places.start, places.stop, places.step)
        for lane, own in self.places(places).items():
            buffers, within = np.divmod(own, self.order.buffer)
            sequence = np.empty(len(own), np.int64)
            for number in np.unique(buffers):
                here = buffers == number
                first, _ = self.window(lane, int(number))
                sequence[here] = first + self.shuffled(lane, int(number))[within[here]]
            found[wanted % self.order.lanes == lane] = self.positions(sequence)
        return found

    def positions(self, sequence: Numbers) -> Numbers:
        """Places of the epoch's sequence of pieces as positions in the split."""
        at = self.ends.searchsorted(sequence, side="right")
        pieces = self.pieces[at]
        within = sequence - (self.ends[at] - self.order.counts[pieces])
        return np.asarray(self.order.starts[pieces] + within)

    def parts(self, low: int, high: int) -> list[tuple[int, int, int]]:
        """What lies from ``low`` to ``high`` in the sequence: piece, and which of its examples."""
        found: list[tuple[int, int, int]] = []
        at = int(self.ends.searchsorted(low, side="right"))
        while low < high:
            piece = int(self.pieces[at])
            begin = int(self.ends[at] - self.order.counts[piece])
            end = min(int(self.ends[at]), high)
            found.append((piece, low - begin, end - begin))
            low, at = end, at + 1
        return found
