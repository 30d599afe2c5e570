"""Streams of batches on the device, in an order that depends on ``(seed, epoch)`` alone."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Draw, Stream, epoch_seed, position_seed
from dltrain.data.streams.hashes import Hashes, hashes_of
from dltrain.data.streams.transfer import fetched

if TYPE_CHECKING:
    from typing_extensions import Self

Prepare = Callable[[Batch, Draw | None], Batch]
"""Turns a gathered batch into what the model reads, on the device, whole batches at a time.

With a draw it may augment, by that draw alone; without one it must not.
"""


BUCKET = 16
"""Lengths that round up to the same multiple of it are of a kind, when batches are shuffled."""


@dataclass(frozen=True)
class Limits:
    """How much is in a batch: at most ``examples``, and at most ``tokens``, padding included.

    None: as many as there are. ``tokens`` is of ragged examples alone; one that is longer is a
    batch of its own. Ragged examples are mixed with those whose lengths round up to the same
    multiple of ``bucket``: the larger, the less a batch has of one length, and the more padding.
    """

    examples: int | None = None
    tokens: int | None = None
    bucket: int = BUCKET

    def cut(self, lengths: list[int]) -> list[tuple[int, int]]:
        """Where each batch begins and ends among examples that are sorted by length."""
        bounds, first = [], 0
        for position, length in enumerate(lengths):
            count = position - first + 1
            too_many = self.examples is not None and count > self.examples
            too_long = self.tokens is not None and count * length > self.tokens
            if position > first and (too_many or too_long):
                bounds.append((first, position))
                first = position
        return [*bounds, (first, len(lengths))]


@dataclass(frozen=True)
class Batching:
    """How examples become batches.

    ``shuffle`` draws a new order each epoch by ``seed``, and lets ``prepare`` augment. With
    ``classes`` (examples,) an epoch has each class about as often: as many examples as ever are
    drawn, with replacement, each of a class that is as likely as any other that occurs.
    """

    limits: Limits
    device: torch.device
    prepare: Prepare
    seed: int = 0
    shuffle: bool = False
    classes: Tensor | None = None


@dataclass(frozen=True)
class Order:
    """The batches of an epoch.

    ``rows`` are all examples in order, where they are gathered (None: as they lie). Each batch is
    ``rows[low:high]`` of one of ``bounds``.
    """

    rows: Tensor | None
    bounds: Sequence[tuple[int, int]]

    def every(self, first: int, step: int) -> Self:
        """Every ``step``-th batch from number ``first`` on."""
        return replace(self, bounds=self.bounds[first::step])


O = TypeVar("O", bound=Order)  # noqa: E741


class TrainingDraw:
    """A :class:`~dltrain.contracts.data.Draw` for one batch after another of an epoch."""

    final = False

    def __init__(self, stream: Stream, generator: torch.Generator, seed: int, epoch: int) -> None:
        self.seed, self.epoch = seed, epoch
        self._stream, self._generator = stream, generator
        self._position = 0
        self._seeded = False

    def begin(self, position: int) -> None:
        """Go to batch number ``position``."""
        self._position, self._seeded = position, False

    @property
    def generator(self) -> torch.Generator:
        """On the device. Seeded when it is first asked for: a small step would feel it."""
        if not self._seeded:
            self._generator.manual_seed(position_seed(self.seed, self.epoch, self._position))
            self._seeded = True
        return self._generator

    @property
    def rows(self) -> Tensor:
        """On the device."""
        return self._stream.rows(self.epoch, self._position)


class OrderedStream(Stream, Generic[O]):
    """Batches of examples that are all known, in an order that ``(seed, epoch)`` decides.

    Where a batch's columns come from is the subclass's business. The order of the last epoch that
    was asked for is kept.
    """

    def __init__(self, count: int, batching: Batching) -> None:
        self._count = count
        self._device = batching.device
        self._prepare = batching.prepare
        self._seed = batching.seed
        self._generator = torch.Generator(batching.device) if batching.shuffle else None
        self._balanced = None if batching.classes is None else _Balanced(batching.classes)
        self._unshuffled = self.lying()
        self._latest: tuple[int, O] | None = None

    @abstractmethod
    def lying(self) -> O:
        """The batches where nothing is shuffled."""

    @abstractmethod
    def draw(self, epoch: int) -> O:
        """Shuffled batches, as many and as large in every epoch, by :meth:`shuffling` alone."""

    @abstractmethod
    def gather(self, order: O, start: int) -> Iterator[Batch]:
        """The columns of each batch from number ``start`` on, on the device."""

    @property
    def steps_per_epoch(self) -> int:
        return len(self._unshuffled.bounds)

    @property
    def examples(self) -> int:
        return self._count

    @property
    def smallest_batch(self) -> int:
        """Examples in the smallest batch."""
        return min(high - low for low, high in self._unshuffled.bounds)

    def order(self, epoch: int) -> O:
        """The batches of an epoch."""
        if self._generator is None:
            return self._unshuffled
        if self._latest is None or self._latest[0] != epoch:
            self._latest = epoch, self.draw(epoch)
        return self._latest[1]

    def shuffling(self, epoch: int) -> torch.Generator:
        """What shuffles an epoch; on the CPU, so that the order is the same on every device."""
        return torch.Generator().manual_seed(epoch_seed(self._seed, epoch))

    def shuffled(self, generator: torch.Generator) -> Tensor:
        """The examples of an epoch in random order (examples,), on the CPU."""
        if self._balanced is not None:
            return self._balanced.draw(generator)
        return torch.randperm(self._count, generator=generator)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Gather and prepare batch after batch."""
        gathered = self.gather(self.order(epoch), start)
        if self._generator is None:
            for batch in gathered:
                yield self._prepare(batch, None)
            return
        draw = TrainingDraw(self, self._generator, self._seed, epoch)
        for position, batch in enumerate(gathered, start):
            draw.begin(position)
            yield self._prepare(batch, draw)

    def plain(self) -> Iterator[Batch]:
        """Gather and prepare, but let nothing be drawn."""
        for batch in self.gather(self.order(0), 0):
            yield self._prepare(batch, None)

    def dealt(self, rank: int, world: int) -> Iterator[tuple[int, Batch]]:
        """Gather and prepare those alone."""
        order = self.order(0)
        numbers = range(rank, len(order.bounds), world)
        for number, batch in zip(numbers, self.gather(order.every(rank, world), 0), strict=True):
            yield number, self._prepare(batch, None)

    def rows(self, epoch: int, position: int) -> Tensor:
        """The examples of batch number ``position``, on the device."""
        order = self.order(epoch)
        low, high = order.bounds[position]
        if order.rows is None:
            return torch.arange(low, high, device=self._device)
        return order.rows[low:high]


def batch_bounds(count: int, size: int, alone: bool) -> list[tuple[int, int]]:
    """Where each batch of ``count`` examples begins and ends.

    A last one of a single example joins the one before, unless it may be ``alone``.
    """
    bounds = [(low, min(low + size, count)) for low in range(0, count, size)]
    if not alone and count % size == 1 and len(bounds) > 1:
        bounds[-2:] = [(bounds[-2][0], count)]
    return bounds


class FixedSizeStream(OrderedStream[Order]):
    """Batches of one size; the last may be smaller.

    In training a last batch of a single example joins the one before: batch norm has no variance
    of it, and as a batch of its own it would weigh as much as all others.
    """

    def __init__(self, count: int, batching: Batching) -> None:
        self._batch_size = min(batching.limits.examples or count, count)
        self._chosen: Callable[[int], Order] | None = None
        super().__init__(count, batching)

    @property
    def batch_size(self) -> int:
        """Examples of a batch, the last excepted."""
        return self._batch_size

    @property
    def balanced(self) -> bool:
        """Whether classes are drawn about as often."""
        return self._balanced is not None

    @property
    def seed(self) -> int:
        """By which it is shuffled."""
        return self._seed

    def placed(self, rows: Tensor) -> Tensor:
        """``rows`` of an order where they are gathered: on the device of the batches."""
        return fetched(rows, self._device)

    def chosen(self, draw: Callable[[int], Order]) -> FixedSizeStream:
        """The same examples, in the batches that ``draw`` chooses for an epoch by its number.

        There are as many in every epoch. It is shuffled, or this is an evaluation's.
        """
        assert self._generator is not None, "nothing is drawn of an evaluated split"
        found = copy.copy(self)
        found._chosen, found._latest, found._unshuffled = draw, None, draw(0)
        return found

    def lying(self) -> Order:
        return Order(None, batch_bounds(self._count, self._batch_size, self._generator is None))

    def draw(self, epoch: int) -> Order:
        if self._chosen is not None:
            return self._chosen(epoch)
        # A batch of everything has no order, and needs no gathering.
        if self._batch_size == self._count and self._balanced is None:
            return self._unshuffled
        rows = self.placed(self.shuffled(self.shuffling(epoch)))
        return Order(rows, self._unshuffled.bounds)


class TensorStream(FixedSizeStream):
    """A data set that lies on the device as tensors; a batch is one indexing call per column.

    ``columns`` share their first dimension, the examples.
    """

    def __init__(self, columns: Mapping[str, Tensor], batching: Batching) -> None:
        lengths = {len(column) for column in columns.values()}
        assert len(lengths) == 1, f"columns of different lengths: {lengths}"
        self._columns = {name: column.to(batching.device) for name, column in columns.items()}
        super().__init__(lengths.pop(), batching)

    def gather(self, order: Order, start: int) -> Iterator[Batch]:
        """Slices where there is no order, else rows by number; everything is not sliced."""
        for low, high in order.bounds[start:]:
            if order.rows is None and high - low == self._count:
                yield dict(self._columns)
            elif order.rows is None:
                yield {name: column[low:high] for name, column in self._columns.items()}
            else:
                chosen = order.rows[low:high]
                yield {n: c.index_select(0, chosen) for n, c in self._columns.items()}


class _Balanced:
    """Draws examples so that each of ``classes`` (examples,) that occurs is as likely."""

    def __init__(self, classes: Tensor) -> None:
        self._rows = classes.cpu().argsort(stable=True)
        self._sizes = classes.cpu().unique(return_counts=True)[1]
        self._starts = self._sizes.cumsum(0) - self._sizes

    def draw(self, generator: torch.Generator) -> Tensor:
        """As many examples as there are (examples,), with replacement."""
        count = len(self._rows)
        drawn = torch.randint(len(self._sizes), (count,), generator=generator)
        sizes = self._sizes[drawn]
        # Of float64, so that every example of a large class can be drawn.
        fractions = torch.rand(count, generator=generator, dtype=torch.float64)
        places = (fractions * sizes).long().clamp_max(sizes - 1)
        return self._rows[self._starts[drawn] + places]


class Split(ABC):
    """The examples of a split, wherever they lie; ``columns`` are those that lie in memory."""

    columns: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.columns["target"])

    @abstractmethod
    def only(self, rows: Tensor) -> Split:
        """Those of the rows given."""

    @abstractmethod
    def stream(self, batching: Batching) -> Stream:
        """Batches of them."""

    def hashes(self) -> dict[str, Hashes]:
        """A hash of each example's value in every column."""
        return {name: hashes_of(column) for name, column in self.columns.items()}


class InMemory(Split):
    """Examples as tensors that share their first dimension."""

    def __init__(self, columns: Mapping[str, Tensor]) -> None:
        self.columns = columns

    def only(self, rows: Tensor) -> InMemory:
        """Those of the rows given, copied."""
        return InMemory({name: column[rows] for name, column in self.columns.items()})

    def stream(self, batching: Batching) -> Stream:
        return TensorStream(self.columns, batching)
