"""Rounds of clients as epochs of one stream."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Stream, epoch_seed
from dltrain.data.streams.in_memory import FixedSizeStream, Order, batch_bounds

SHARDS = 2**31
"""The epoch by whose seed examples are dealt to clients: none that is trained."""


class Rounds(Stream):
    """Each epoch is a round: the batches of one client after the other, of every local epoch.

    ``shards`` (clients, each) are the examples of each client. Which ``per_round`` of them take
    part in a round, and the order of their examples in each of ``local_epochs``, depend on the seed
    and the round alone.
    """

    def __init__(
        self, stream: FixedSizeStream, shards: Tensor, per_round: int, local_epochs: int
    ) -> None:
        self._whole, self._shards = stream, shards
        self._per_round, self._local_epochs = per_round, local_epochs
        each = shards.shape[1]
        self._bounds = batch_bounds(each, min(stream.batch_size, each), alone=False)
        self._rounds = stream.chosen(self._order)

    @property
    def steps_per_client(self) -> int:
        """Batches that a client trains on in a round."""
        return len(self._bounds) * self._local_epochs

    @property
    def steps_per_epoch(self) -> int:
        """Batches of a round."""
        return self.steps_per_client * self._per_round

    @property
    def examples_per_round(self) -> int:
        """Examples that the batches of a round have."""
        each = sum(high - low for low, high in self._bounds)
        return each * self._local_epochs * self._per_round

    @property
    def examples_per_client(self) -> int:
        """As many for each."""
        return self._shards.shape[1]

    @property
    def examples(self) -> int:
        """Of all clients."""
        return self._shards.numel()

    @property
    def smallest_batch(self) -> int:
        """Examples in the smallest batch."""
        return min(high - low for low, high in self._bounds)

    def clients(self, number: int) -> list[int]:
        """Who takes part in round ``number``, counted from 0, in order."""
        return self._chosen(self._generator(number)).tolist()

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Those of a round, from number ``start`` on."""
        return self._rounds.batches(epoch, start)

    def plain(self) -> Iterator[Batch]:
        """Everybody's examples as they are."""
        return self._whole.plain()

    def rows(self, epoch: int, position: int) -> Tensor:
        """Which examples make up batch ``position`` of a round."""
        return self._rounds.rows(epoch, position)

    def _generator(self, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(epoch_seed(self._whole.seed, number))

    def _chosen(self, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(self._shards), generator=generator)[: self._per_round]

    def _order(self, number: int) -> Order:
        generator = self._generator(number)
        each = self._shards.shape[1]
        rows: list[Tensor] = []
        bounds: list[tuple[int, int]] = []
        for client in self._chosen(generator):
            for _ in range(self._local_epochs):
                begin = len(rows) * each
                rows.append(self._shards[client][torch.randperm(each, generator=generator)])
                bounds += [(begin + low, begin + high) for low, high in self._bounds]
        return Order(self._whole.placed(torch.cat(rows)), bounds)
