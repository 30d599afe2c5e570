"""Sequences of different lengths: kept end to end, batched with others of their length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.data.loaders import OrderedLoader, Prepare
from dltrain.types import Batch

BUCKET = 16
"""Lengths that round up to the same multiple of it are of a kind, when batches are shuffled."""


@dataclass(frozen=True)
class Limits:
    """How much is in a batch: at most ``examples``, and at most ``tokens``, padding included.

    An example longer than ``tokens`` is a batch of its own.
    """

    examples: int | None
    tokens: int | None = None

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


class RaggedLoader(OrderedLoader):
    """Batches of sequences of about one length, padded on the right with 0 to their longest.

    ``ids`` (all tokens,) holds the sequences end to end, on the device; ``starts`` and
    ``lengths`` (examples,) say where each lies, on the CPU, so that the size of a batch is known
    without asking the device. ``columns`` share their first dimension with these.

    With ``shuffle`` the examples are sorted by length in steps of ``BUCKET``, those of a step in
    random order, and cut into batches by ``limits``, which come in random order. Without, they
    are sorted by length. The number and the sizes of the batches are those of every epoch.
    """

    def __init__(
        self,
        ids: Tensor,
        starts: Tensor,
        lengths: Tensor,
        columns: Mapping[str, Tensor],
        limits: Limits,
        device: torch.device,
        prepare: Prepare,
        seed: int = 0,
        shuffle: bool = False,
    ) -> None:
        self._ids = ids.to(device)
        self._starts, self._lengths = starts.to(device), lengths.to(device)
        self._columns = {name: column.to(device) for name, column in columns.items()}
        self._host_lengths = lengths
        steps = -(-lengths // BUCKET) * BUCKET
        self._keys = steps.clamp(max=int(lengths.max())) if shuffle else lengths
        keys, self._sorted = self._keys.sort(stable=True)
        self._bounds = limits.cut(keys.tolist())
        self._arrange(self._sorted, self._bounds)
        super().__init__(len(lengths), len(lengths), device, prepare, seed, shuffle)

    def __len__(self) -> int:
        return len(self._bounds)

    def draw(self, seed: int) -> None:
        """Mix what is of a kind, then the batches."""
        generator = torch.Generator().manual_seed(seed)
        mixed = torch.randperm(len(self._keys), generator=generator)
        by_length = mixed[self._keys[mixed].sort(stable=True).indices]
        turns = torch.randperm(len(self._bounds), generator=generator).tolist()
        self._arrange(by_length, [self._bounds[turn] for turn in turns])

    def indices(self, batch: int) -> Tensor:
        """The examples of batch number ``batch``, as positions among this loader's examples."""
        low, high = self._turns[batch]
        return self._by_length[low:high]

    def gather(self, start: int) -> Iterator[Batch]:
        """One indexing call for all ids of a batch."""
        by_length = self._by_length.to(self._device)
        for (low, high), longest in zip(self._turns[start:], self._longest[start:], strict=True):
            rows = by_length[low:high]
            positions = torch.arange(longest, device=self._device)
            real = positions < self._lengths[rows][:, None]
            # What lies beyond an example's end is another's, or beyond the last one's nothing.
            places = (self._starts[rows][:, None] + positions) * real
            batch = {name: column[rows] for name, column in self._columns.items()}
            yield {"input": self._ids[places] * real, **batch}

    def _arrange(self, by_length: Tensor, turns: list[tuple[int, int]]) -> None:
        """Choose an epoch's batches, and find how long each is."""
        self._by_length, self._turns = by_length, turns
        lengths = self._host_lengths[by_length]
        self._longest = [int(lengths[low:high].max()) for low, high in turns]
