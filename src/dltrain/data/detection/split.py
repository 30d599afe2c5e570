"""A split of images of one size with any number of boxes each, and the batches of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Draw, Stream
from dltrain.data.streams.hashes import Hashes, hashes_of_ragged, joined
from dltrain.data.streams.in_memory import Batching, FixedSizeStream, InMemory, Order, Split
from dltrain.data.streams.on_disk import InFiles
from dltrain.data.streams.ragged import Ragged

IMAGES = "input"
LENGTH = "{}_length"


class BoxSplit(Split):
    """``images`` hold the column ``input``; ``ragged`` has as many rows an image as it has boxes.

    ``columns`` are those of one shape.
    """

    def __init__(
        self,
        images: InMemory | InFiles,
        ragged: Mapping[str, Ragged],
        columns: Mapping[str, Tensor],
    ) -> None:
        self.images, self.ragged, self.columns = images, ragged, columns

    def __len__(self) -> int:
        return len(self.images)

    def only(self, rows: Tensor) -> BoxSplit:
        """Those of the rows given; their boxes are shared."""
        ragged = {name: column.only(rows) for name, column in self.ragged.items()}
        columns = {name: column[rows] for name, column in self.columns.items()}
        return BoxSplit(self.images.only(rows), ragged, columns)

    def stream(self, batching: Batching) -> Stream:
        images = self.images.stream(replace(batching, prepare=_as_it_is))
        assert isinstance(images, FixedSizeStream)
        return BoxStream(images, self.ragged, self.columns, batching)

    def hashes(self) -> dict[str, Hashes]:
        """Of an image its pixels, and of all its boxes, which are its target."""
        boxes = {
            name: hashes_of_ragged(column.values, column.starts, column.lengths)
            for name, column in self.ragged.items()
        }
        return {IMAGES: self.images.hashes()[IMAGES], "target": joined(boxes)}


class BoxStream(FixedSizeStream):
    """Batches of images, and boxes padded to as many as the split's fullest image has.

    So every batch has the same shapes, and none is waited for.
    """

    def __init__(
        self,
        images: FixedSizeStream,
        ragged: Mapping[str, Ragged],
        columns: Mapping[str, Tensor],
        batching: Batching,
    ) -> None:
        self._images = images
        lengths = [int(column.lengths.max()) for column in ragged.values()]
        self._longest = max(1, *lengths)
        self._ragged = {name: column.to(batching.device) for name, column in ragged.items()}
        self._columns = {name: column.to(batching.device) for name, column in columns.items()}
        super().__init__(images.examples, batching)

    def gather(self, order: Order, start: int) -> Iterator[Batch]:
        """An image's pixels from wherever they lie, its boxes from the device."""
        images = self._images.gather(order, start)
        for (low, high), found in zip(order.bounds[start:], images, strict=True):
            if order.rows is None:
                rows = torch.arange(low, high, device=self._device)
            else:
                rows = order.rows[low:high]
            batch: Batch = {IMAGES: found[IMAGES]}
            for name, column in self._ragged.items():
                batch[name], batch[LENGTH.format(name)] = column.gather(rows, self._longest)
            yield batch | {name: column[rows] for name, column in self._columns.items()}


def _as_it_is(batch: Batch, draw: Draw | None) -> Batch:
    return batch
