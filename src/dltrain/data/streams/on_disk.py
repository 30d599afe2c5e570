"""A stream of data sets that stay in files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dltrain.contracts.data import Batch, Stream
from dltrain.data.streams.hashes import Hashes, stored_hashes
from dltrain.data.streams.in_memory import Batching, FixedSizeStream, Order, Split
from dltrain.data.streams.transfer import fetched


class FileStream(FixedSizeStream):
    """A data set that stays in files: ``workers`` processes read the batches to come.

    ``files`` are .npy arrays, one a column, that share their first dimension; ``rows`` (None:
    all) are those that this stream's examples are.
    """

    def __init__(
        self, files: Mapping[str, Path], rows: Tensor | None, batching: Batching, workers: int = 2
    ) -> None:
        self._dataset = _StoredRows(dict(files))
        self._rows = torch.arange(len(self._dataset)) if rows is None else rows
        self._workers = workers
        super().__init__(len(self._rows), batching)

    def placed(self, rows: Tensor) -> Tensor:
        """On the host, which reads them."""
        return rows

    def rows(self, epoch: int, position: int) -> Tensor:
        """The examples of batch number ``position``, on the device."""
        order = self.order(epoch)
        low, high = order.bounds[position]
        rows = torch.arange(low, high) if order.rows is None else order.rows[low:high]
        return fetched(rows, self._device)

    def gather(self, order: Order, start: int) -> Iterator[Batch]:
        """Read ahead, and move each batch to the device when its turn comes."""
        chosen = self._rows if order.rows is None else self._rows[order.rows]
        batches = [chosen[low:high] for low, high in order.bounds[start:]]
        on_gpu = self._device.type == "cuda"
        # An item of this data set is a batch already, read in one go.
        loader: DataLoader[Batch] = DataLoader(
            self._dataset,
            sampler=batches,
            batch_size=None,
            num_workers=self._workers,
            pin_memory=on_gpu,
            # DataLoader draws its workers' seed from the global generator, unless it has its own.
            generator=torch.Generator(),
        )
        yield from copied_ahead(loader, self._device) if on_gpu else loader


class InFiles(Split):
    """Examples in .npy files, one a column; ``rows`` (None: all) of them."""

    def __init__(self, files: Mapping[str, Path], rows: Tensor | None, workers: int) -> None:
        self._files, self._rows, self._workers = files, rows, workers
        targets = torch.from_numpy(np.load(files["target"]))
        self.columns = {"target": targets if rows is None else targets[rows]}

    def only(self, rows: Tensor) -> InFiles:
        chosen = rows if self._rows is None else self._rows[rows]
        return InFiles(self._files, chosen, self._workers)

    def stream(self, batching: Batching) -> Stream:
        return FileStream(self._files, self._rows, batching, self._workers)

    def hashes(self) -> dict[str, Hashes]:
        """Of the files' rows: read once, and then kept beside the files."""
        found = {name: stored_hashes(file) for name, file in self._files.items()}
        if self._rows is None:
            return found
        rows = self._rows.numpy()
        return {name: hashes[rows] for name, hashes in found.items()}


def copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Batches from pinned memory on a CUDA device; each is copied while the one before is used."""
    beside = torch.cuda.Stream(device)
    ahead: Batch | None = None
    for batch in batches:
        ready = _arrived(ahead, beside) if ahead is not None else None
        with torch.cuda.stream(beside):
            ahead = {n: column.to(device, non_blocking=True) for n, column in batch.items()}
        if ready is not None:
            yield ready
    if ahead is not None:
        yield _arrived(ahead, beside)


def _arrived(batch: Batch, beside: torch.cuda.Stream) -> Batch:
    """``batch``, for work that is enqueued from now on; its memory is kept until that is done."""
    stream = torch.cuda.current_stream(beside.device)
    stream.wait_stream(beside)
    for column in batch.values():
        column.record_stream(stream)
    return batch


class _StoredRows(Dataset[Batch]):
    """Rows of .npy files by their numbers; small to send to another process."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files

    def __len__(self) -> int:
        return len(np.load(next(iter(self._files.values())), mmap_mode="r"))

    def __getitem__(self, rows: Tensor) -> Batch:
        numbers = rows.numpy()
        return {
            name: torch.from_numpy(np.load(file, mmap_mode="r")[numbers])
            for name, file in self._files.items()
        }
