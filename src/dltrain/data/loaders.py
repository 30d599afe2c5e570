"""Loaders: batches on the device, in an order that depends on ``(seed, epoch)`` alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from dltrain.types import Batch, Loader


class Draw:
    """All that a training batch's augmentation may depend on, besides the batch.

    ``generator`` is seeded for this batch of this epoch; ``seed`` is the run's, ``epoch`` counts
    from 0, and ``rows`` (batch,) are the batch's examples, as positions in the split.
    """

    def __init__(self, loader: Loader, device: torch.device, seed: int) -> None:
        self.seed = seed
        self.epoch = 0
        self._loader, self._number = loader, 0
        self._generator = torch.Generator(device)
        self._due: int | None = None

    def begin(self, number: int, seed: int) -> None:
        """Go to batch ``number``, whose generator begins at ``seed``."""
        self._number, self._due = number, seed

    @property
    def generator(self) -> torch.Generator:
        """On the device; seeded when it is first asked for, for that costs a small step dear."""
        if self._due is not None:
            self._generator.manual_seed(self._due)
            self._due = None
        return self._generator

    @property
    def rows(self) -> Tensor:
        """On the device."""
        return self._loader.indices(self._number).to(self._generator.device)


Prepare = Callable[[Batch, Draw | None], Batch]
"""Turns a gathered batch into what the model reads, on the device, whole batches at a time.

With a draw it may augment, by that draw alone; without one it must not.
"""


class OrderedLoader(Loader):
    """Batches of ``count`` examples, in an order that ``(seed, epoch)`` decides.

    ``shuffle`` draws a new order each epoch and lets ``prepare`` augment. The last batch may be
    smaller. Where a batch's columns come from is the subclass's business.
    """

    def __init__(
        self,
        count: int,
        batch_size: int,
        device: torch.device,
        prepare: Prepare,
        seed: int = 0,
        shuffle: bool = False,
    ) -> None:
        self._count = count
        self._batch_size = min(batch_size, count)
        self._device = device
        self._prepare = prepare
        self._seed = seed
        self._order: Tensor | None = None
        self._draw = Draw(self, device, seed) if shuffle else None
        self._epoch_seed = 0
        self.set_epoch(0)

    @abstractmethod
    def gather(self, start: int) -> Iterator[Batch]:
        """The columns of each batch from number ``start`` on, on the device."""

    def __len__(self) -> int:
        return -(-self._count // self._batch_size)

    @property
    def examples(self) -> int:
        """Examples in the split."""
        return self._count

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's order; on the CPU, so that it is the same on every device."""
        self._epoch_seed = _mix(self._seed, epoch)
        if self._draw is not None:
            self._draw.epoch = epoch
            self.draw(self._epoch_seed)

    def draw(self, seed: int) -> None:
        """Shuffle: choose the epoch's order by ``seed`` alone."""
        # A batch of everything has no order, and needs no gathering.
        if self._batch_size < self._count:
            generator = torch.Generator().manual_seed(seed)
            self._order = torch.randperm(self._count, generator=generator).to(self._device)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Gather and prepare batch after batch."""
        for number, gathered in enumerate(self.gather(start), start):
            if self._draw is not None:
                # Seeded by position, so that a resumed run draws what it would have drawn.
                self._draw.begin(number, self._epoch_seed + number + 1)
            yield self._prepare(gathered, self._draw)

    def plain(self) -> Iterator[Batch]:
        """Gather and prepare, but let nothing be drawn."""
        for gathered in self.gather(0):
            yield self._prepare(gathered, None)

    def indices(self, batch: int) -> Tensor:
        """The examples of batch number ``batch``, as positions among this loader's examples."""
        everything = torch.arange(self._count) if self._order is None else self._order
        return everything[batch * self._batch_size : (batch + 1) * self._batch_size]


class TensorLoader(OrderedLoader):
    """A data set that lies on the device as tensors; a batch is one indexing call per column.

    ``columns`` share their first dimension, the examples.
    """

    def __init__(
        self,
        columns: Mapping[str, Tensor],
        batch_size: int,
        device: torch.device,
        prepare: Prepare,
        seed: int = 0,
        shuffle: bool = False,
    ) -> None:
        lengths = {len(column) for column in columns.values()}
        assert len(lengths) == 1, f"columns of different lengths: {lengths}"
        super().__init__(lengths.pop(), batch_size, device, prepare, seed, shuffle)
        self._columns = {name: column.to(device) for name, column in columns.items()}

    def gather(self, start: int) -> Iterator[Batch]:
        """Slices where there is no order, else rows by number; everything is not sliced."""
        if self._order is None and start == 0 and self._batch_size == self._count:
            yield dict(self._columns)
            return
        for low in range(start * self._batch_size, self._count, self._batch_size):
            high = min(low + self._batch_size, self._count)
            if self._order is None:
                yield {name: column[low:high] for name, column in self._columns.items()}
            else:
                chosen = self._order[low:high]
                yield {n: c.index_select(0, chosen) for n, c in self._columns.items()}


class FirstBatches(Loader):
    """The first ``count`` batches of another loader's first epoch, the same ones every epoch."""

    def __init__(self, loader: Loader, count: int) -> None:
        loader.set_epoch(0)
        batches = loader.batches()
        self._kept = [batch for batch, _ in zip(batches, range(count), strict=False)]
        self._indices = [loader.indices(number) for number in range(len(self._kept))]

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def examples(self) -> int:
        """Examples in the batches kept."""
        return sum(len(indices) for indices in self._indices)

    def set_epoch(self, epoch: int) -> None:
        """Nothing changes from epoch to epoch."""

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The batches kept, in order."""
        return iter(self._kept[start:])

    def indices(self, batch: int) -> Tensor:
        """The examples of a kept batch in the underlying split."""
        return self._indices[batch]


def _mix(seed: int, epoch: int) -> int:
    """A 62-bit seed, far from that of every other epoch, so that no two draws share a stream."""
    mixed = 0
    for number in (seed, epoch):
        # splitmix64 (Steele, Lea and Flood 2014)
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 2
