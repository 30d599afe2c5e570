"""Sources whose examples fit in memory: read as arrays, kept on the device as tensors."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import torch

from dltrain.data.loaders import Prepare, TensorLoader
from dltrain.errors import UserError
from dltrain.types import Batch, Loader, Loaders, Source


class ArraySource(Source):
    """Splits, limits and batches what :meth:`read` returns.

    ``root`` is the folder of the data sets' files; a source that needs no files ignores it.
    ``batch_size`` is a number or ``full`` (batch gradient descent). ``validation`` sets aside a
    share of the training split (below 1) or a number of its examples, drawn by the run's seed; 0
    sets none aside. ``limit`` keeps only that many examples of the training split, validation
    included, drawn by the same seed. The test split is always whole.
    """

    def __init__(
        self,
        root: str | None = None,
        batch_size: int | Literal["full"] = 128,
        validation: float = 0.1,
        limit: int | None = None,
        evaluation_batch_size: int = 1000,
    ) -> None:
        if batch_size != "full" and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if validation < 0:
            raise ValueError(f"validation is not negative, got {validation}")
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        if evaluation_batch_size < 1:
            raise ValueError(
                f"evaluation_batch_size must be at least 1, got {evaluation_batch_size}"
            )
        self.root = root
        self.batch_size = batch_size
        self.validation = validation
        self.limit = limit
        self.evaluation_batch_size = evaluation_batch_size

    @abstractmethod
    def read(self) -> tuple[Batch, Batch]:
        """Return the columns of the training split and of the test split, on the CPU."""

    @abstractmethod
    def prepare(self, device: torch.device) -> Prepare:
        """Return what turns gathered columns into the model's input."""

    def loaders(self, device: torch.device, seed: int) -> Loaders:
        """Read, split and move the data."""
        train, test = self.read()
        train, validation = self._split(train, seed)
        prepare = self.prepare(device)
        count = len(next(iter(train.values())))
        batch_size = count if self.batch_size == "full" else self.batch_size

        def evaluated(columns: Batch) -> Loader:
            return TensorLoader(columns, self.evaluation_batch_size, device, prepare)

        return Loaders(
            train=TensorLoader(train, batch_size, device, prepare, seed, shuffle=True),
            validation=evaluated(validation) if validation else None,
            test=evaluated(test),
        )

    def _split(self, columns: Batch, seed: int) -> tuple[Batch, Batch]:
        count = len(next(iter(columns.values())))
        kept = count if self.limit is None else self.limit
        if kept > count:
            raise UserError(f"data.limit is {kept}, but the training split has {count} examples.")
        held_out = round(self.validation * kept) if self.validation < 1 else int(self.validation)
        if held_out >= kept:
            raise UserError(
                f"data.validation sets {held_out} of {kept} examples aside, which leaves none to "
                "train on."
            )
        if kept == count and not held_out:
            return columns, {}
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:kept]
        # Sorted: the split is what the seed decides, the order of an epoch is drawn later.
        train, validation = order[held_out:].sort().values, order[:held_out].sort().values
        return (
            {name: column[train] for name, column in columns.items()},
            {name: column[validation] for name, column in columns.items()} if held_out else {},
        )
