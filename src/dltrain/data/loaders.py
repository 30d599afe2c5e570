"""Loaders: batches on the device, in an order that depends on ``(seed, epoch)`` alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from dltrain.types import Batch, Loader

Prepare = Callable[[Batch, torch.Generator | None], Batch]
"""Turns a gathered batch into what the model reads, on the device, whole batches at a time.

With a generator it may augment, drawing from that generator alone; without one it must not.
"""


class TensorLoader(Loader):
    """A data set that lies on the device as tensors; a batch is one indexing call per column.

    ``columns`` share their first dimension, the examples. ``shuffle`` draws a new order each
    epoch and lets ``prepare`` augment. The last batch may be smaller.
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
        self._count = lengths.pop()
        self._columns = {name: column.to(device) for name, column in columns.items()}
        self._batch_size = min(batch_size, self._count)
        self._device = device
        self._prepare = prepare
        self._seed = seed
        self._epoch = 0
        self._order: Tensor | None = None
        self._generator = torch.Generator(device) if shuffle else None

    def __len__(self) -> int:
        return -(-self._count // self._batch_size)

    @property
    def examples(self) -> int:
        """Examples in the split."""
        return self._count

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's order; on the CPU, so that it is the same on every device."""
        self._epoch = epoch
        if self._generator is not None:
            generator = torch.Generator().manual_seed(_mix(self._seed, epoch, 0))
            self._order = torch.randperm(self._count, generator=generator).to(self._device)

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Gather and prepare batch after batch."""
        if self._generator is not None and self._order is None:
            self.set_epoch(0)
        for batch in range(start, len(self)):
            low = batch * self._batch_size
            high = min(low + self._batch_size, self._count)
            if self._order is None:
                gathered = {name: column[low:high] for name, column in self._columns.items()}
            else:
                chosen = self._order[low:high]
                gathered = {n: c.index_select(0, chosen) for n, c in self._columns.items()}
            if self._generator is not None:
                # Seeded by position, so that a resumed run draws what it would have drawn.
                self._generator.manual_seed(_mix(self._seed, self._epoch, batch + 1))
            yield self._prepare(gathered, self._generator)

    def indices(self, batch: int) -> Tensor:
        """The examples of batch number ``batch``, as positions in this loader's columns."""
        everything = torch.arange(self._count) if self._order is None else self._order
        return everything[batch * self._batch_size : (batch + 1) * self._batch_size]


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


def _mix(seed: int, epoch: int, batch: int) -> int:
    """One 63-bit seed from three numbers, so that no two draws of a run share a stream."""
    mixed = 0
    for number in (seed, epoch, batch):
        # splitmix64 (Steele, Lea and Flood 2014)
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 1
