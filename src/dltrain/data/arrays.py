"""Sources whose examples fit in memory: read as arrays, kept on the device as tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

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

    def read_validation(self) -> Batch | None:
        """The validation split where the data brings its own, after :meth:`read`.

        ``validation`` is then without effect.
        """
        return None

    @abstractmethod
    def prepare(self, device: torch.device) -> Prepare:
        """Return what turns gathered columns into the model's input."""

    def learn(self, train: Batch, rows: Tensor | None) -> Callable[[Batch], Batch]:
        """Learn what is then done to every split, from the training ``rows`` (None: all) alone.

        So nothing of the validation or the test split leaks into means, deviations and the like.
        """
        return lambda columns: columns

    def loader(
        self,
        columns: Batch,
        rows: Tensor | None,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        shuffle: bool = False,
    ) -> Loader:
        """Batch the ``rows`` (None: all) of a split; a source may choose another loader."""
        if rows is not None:
            columns = {name: column[rows] for name, column in columns.items()}
        return TensorLoader(columns, batch_size, device, self.prepare(device), seed, shuffle)

    def loaders(self, device: torch.device, seed: int) -> Loaders:
        """Read, split and move the data."""
        train, test = self.read()
        given = self.read_validation()
        count = len(next(iter(train.values())))
        rows, held_out = self._split(count, seed, 0 if given is not None else self.validation)
        learned = self.learn(train, rows)
        train, test = learned(train), learned(test)
        validation = train if given is None else learned(given)
        left = count if rows is None else len(rows)
        batch_size = left if self.batch_size == "full" else self.batch_size
        size = self.evaluation_batch_size
        validates = held_out is not None or given is not None
        return Loaders(
            train=self.loader(train, rows, batch_size, device, seed, shuffle=True),
            validation=self.loader(validation, held_out, size, device) if validates else None,
            test=self.loader(test, None, size, device),
        )

    def _split(
        self, count: int, seed: int, validation: float
    ) -> tuple[Tensor | None, Tensor | None]:
        """Which of ``count`` rows to train on (None: all), and which to set aside (None: none)."""
        kept = count if self.limit is None else self.limit
        if kept > count:
            raise UserError(f"data.limit is {kept}, but the training split has {count} examples.")
        held_out = round(validation * kept) if validation < 1 else int(validation)
        if held_out >= kept:
            raise UserError(
                f"data.validation sets {held_out} of {kept} examples aside, which leaves none to "
                "train on."
            )
        if kept == count and not held_out:
            return None, None
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))[:kept]
        # Sorted: the split is what the seed decides, the order of an epoch is drawn later.
        rows, set_aside = order[held_out:].sort().values, order[:held_out].sort().values
        return rows, set_aside if held_out else None
