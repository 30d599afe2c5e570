"""Examples of different lengths: kept end to end, batched with others of their length."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Stream
from dltrain.data.streams.hashes import Hashes, hashes_of_ragged
from dltrain.data.streams.in_memory import Batching, Order, OrderedStream, Split
from dltrain.data.streams.transfer import fetched

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class Ragged:
    """A column whose examples differ in length.

    ``values`` (all, …) holds them end to end; ``starts`` and ``lengths`` (examples,) say where
    each lies. ``fill`` pads the shorter ones of a batch.
    """

    values: Tensor
    starts: Tensor
    lengths: Tensor
    fill: int | float = 0

    @classmethod
    def joined(cls, values: Tensor, lengths: Tensor, fill: int | float = 0) -> Ragged:
        """Of values that lie in the order of the examples."""
        return cls(values, lengths.cumsum(0) - lengths, lengths, fill)

    def only(self, rows: Tensor) -> Ragged:
        """Those of the rows given; the values are shared."""
        return replace(self, starts=self.starts[rows], lengths=self.lengths[rows])

    def to(self, device: torch.device) -> Ragged:
        """The same on ``device``."""
        values, starts, lengths = (
            part.to(device) for part in (self.values, self.starts, self.lengths)
        )
        return Ragged(values, starts, lengths, self.fill)

    def gather(self, rows: Tensor, longest: int) -> tuple[Tensor, Tensor]:
        """Examples (rows, longest, …), padded on the right, and their lengths (rows,)."""
        positions = torch.arange(longest, device=self.values.device)
        lengths = self.lengths[rows]
        real = positions < lengths[:, None]
        # What lies beyond an example's end is another's, or beyond the last one's nothing.
        places = (self.starts[rows][:, None] + positions) * real
        found = self.values[places]
        if found.dim() > 2:
            real = real.view(*real.shape, *[1] * (found.dim() - 2))
        return torch.where(real, found, self.fill), lengths


@dataclass(frozen=True)
class RaggedOrder(Order):
    """``longest`` has for each batch the length of each ragged column in it."""

    longest: Sequence[Sequence[int]]

    def every(self, first: int, step: int) -> Self:
        return replace(super().every(first, step), longest=self.longest[first::step])


class RaggedStream(OrderedStream[RaggedOrder]):
    """Batches of examples of about one length, padded on the right to their longest.

    Each of the columns ``ragged`` becomes a column (batch, longest, …), with ``<name>_length``
    (batch,) beside it. ``columns`` are those of one shape. An example is as long as the longest
    of its ragged columns.

    With ``shuffle`` the examples are sorted by length in steps of the limits' ``bucket``, those of
    a step in random order, and cut into batches by the limits, which come in random order. Without,
    they are sorted by length. The number and the sizes of the batches are those of every epoch.
    """

    def __init__(
        self,
        ragged: Mapping[str, Ragged],
        columns: Mapping[str, Tensor],
        batching: Batching,
    ) -> None:
        self._ragged = {name: column.to(batching.device) for name, column in ragged.items()}
        self._columns = {name: column.to(batching.device) for name, column in columns.items()}
        # On the CPU, so that the size of a batch is known without asking the device.
        self._lengths = [column.lengths for column in ragged.values()]
        lengths = torch.stack(self._lengths).amax(0)
        bucket = batching.limits.bucket
        steps = -(-lengths // bucket) * bucket
        self._keys = steps.clamp(max=int(lengths.max())) if batching.shuffle else lengths
        keys, self._sorted = self._keys.sort(stable=True)
        self._bounds = batching.limits.cut(keys.tolist())
        super().__init__(len(lengths), batching)

    def lying(self) -> RaggedOrder:
        return self._arranged(self._sorted, self._bounds)

    def draw(self, epoch: int) -> RaggedOrder:
        """Mix what is of a kind, then the batches."""
        generator = self.shuffling(epoch)
        mixed = self.shuffled(generator)
        by_length = mixed[self._keys[mixed].sort(stable=True).indices]
        turns = torch.randperm(len(self._bounds), generator=generator).tolist()
        return self._arranged(by_length, [self._bounds[turn] for turn in turns])

    def gather(self, order: RaggedOrder, start: int) -> Iterator[Batch]:
        """One indexing call for all values of a column."""
        assert order.rows is not None
        for (low, high), longest in zip(order.bounds[start:], order.longest[start:], strict=True):
            rows = order.rows[low:high]
            batch: Batch = {}
            for (name, column), length in zip(self._ragged.items(), longest, strict=True):
                batch[name], batch[f"{name}_length"] = column.gather(rows, length)
            yield batch | {name: column[rows] for name, column in self._columns.items()}

    def _arranged(self, rows: Tensor, bounds: list[tuple[int, int]]) -> RaggedOrder:
        """Find how long each batch is."""
        lengths = [column[rows] for column in self._lengths]
        longest = [[int(column[low:high].max()) for column in lengths] for low, high in bounds]
        return RaggedOrder(fetched(rows, self._device), bounds, longest)


class RaggedSplit(Split):
    """Examples with columns of different lengths."""

    def __init__(self, ragged: Mapping[str, Ragged], columns: Mapping[str, Tensor]) -> None:
        self.ragged, self.columns = ragged, columns

    def __len__(self) -> int:
        return len(next(iter(self.ragged.values())).lengths)

    def only(self, rows: Tensor) -> RaggedSplit:
        """Those of the rows given; their values are shared."""
        ragged = {name: column.only(rows) for name, column in self.ragged.items()}
        return RaggedSplit(ragged, {name: column[rows] for name, column in self.columns.items()})

    def stream(self, batching: Batching) -> Stream:
        return RaggedStream(self.ragged, self.columns, batching)

    def hashes(self) -> dict[str, Hashes]:
        """Of an example that is ragged, of its own values and their number."""
        ragged = {
            name: hashes_of_ragged(column.values, column.starts, column.lengths)
            for name, column in self.ragged.items()
        }
        return super().hashes() | ragged
