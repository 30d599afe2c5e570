"""Sources of pictures that are decoded once, and read or streamed from then on."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dltrain.data.cache import Pictures, Stored, decoded
from dltrain.data.decode import Fit, Shape, UnreadableError, shape_like
from dltrain.data.pictures import PictureSource
from dltrain.data.streams import StreamLoader
from dltrain.data.tables import split
from dltrain.errors import UserError
from dltrain.types import Batch, Loader

GIB = 2**30


class _StoredColumns(dict[str, Tensor]):
    """A split's columns, and the files that hold them."""

    def __init__(self, stored: Stored, in_memory: bool) -> None:
        # Copy on write: torch wants memory that it could write to.
        mode: Any = None if in_memory else "c"
        arrays = {name: np.load(path, mmap_mode=mode) for name, path in stored.files.items()}
        super().__init__({name: torch.from_numpy(array) for name, array in arrays.items()})
        self.files = stored.files


class DecodedPictures(PictureSource):
    """Pictures of any format and size, made alike and kept as uint8 in ``root``'s folder cache.

    ``size`` is a side or (height, width); null: that of the first picture, which all must have.
    ``fit`` says how a picture of another shape gets there: crop, pad or stretch. ``channels`` is
    1 (grey) or 3; null: as the first picture has it. ``skip_unreadable`` leaves out, counts and
    lists what is no picture, instead of refusing it. Up to ``memory_limit`` GiB are held in
    memory; more is streamed by ``workers`` processes. ``test`` is the share set aside as test
    split where none is given: the same pictures for every seed.
    """

    def __init__(
        self,
        root: str,
        size: int | Sequence[int] | None = None,
        fit: Fit = "crop",
        channels: int | None = None,
        test: float = 0.2,
        skip_unreadable: bool = False,
        memory_limit: float = 4.0,
        workers: int = 2,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        **common: Any,
    ) -> None:
        sides = [size] if isinstance(size, int) else list(size or [])
        wrong = size is not None and not isinstance(size, int) and len(sides) != 2
        if wrong or min(sides, default=1) < 1:
            raise ValueError(f"size is a side or [height, width] in pixels, got {size}")
        if channels not in (None, 1, 3):
            raise ValueError(f"channels is 1 or 3, got {channels}")
        if not 0 < test < 1:
            raise ValueError(f"test is a share between 0 and 1, got {test}")
        if memory_limit < 0 or workers < 0:
            raise ValueError("memory_limit and workers are not negative")
        self.test, self.skip_unreadable = test, skip_unreadable
        self.memory_limit, self.workers = memory_limit, workers
        self.shape = self._find_shape(channels, size, fit)
        super().__init__(root=root, mean=mean, std=std, **common)

    @abstractmethod
    def candidates(self) -> Iterator[tuple[str, Path | bytes]]:
        """Names and files of the training split, the first picture among which is gone by."""

    @abstractmethod
    def splits(self) -> tuple[dict[str, Any], Mapping[str, Pictures]]:
        """All that decides the content, for the cache; and ``train``, ``validation``, ``test``.

        The last two only where they are given.
        """

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """As asked, or as the first picture has it."""
        return self.shape.channels, self.shape.height, self.shape.width

    def read(self) -> tuple[Batch, Batch]:
        """Decode what was not decoded before, and open it."""
        assert self.root is not None
        key, found = self.splits()
        parts = dict(found)
        if "test" not in parts:
            parts["train"], parts["test"] = self._set_aside(parts["train"])
        key = key | {"test": self.test}
        folder = Path(self.root).expanduser() / "cache"
        stored = decoded(folder, key, self.shape, parts, self.skip_unreadable)
        for name, part in stored.items():
            if part.skipped:
                listed = "".join(f"\n  {line}" for line in part.skipped)
                self.say(f"{len(part.skipped)} files of {name} skipped:{listed}")
        size = sum(path.stat().st_size for part in stored.values() for path in part.files.values())
        self._streams = size > self.memory_limit * GIB
        columns = {name: _StoredColumns(p, not self._streams) for name, p in stored.items()}
        for name, column in columns.items():
            if not len(column["target"]):
                raise UserError(f"data: no picture is left for the split {name!r}.")
        self._validation = columns.get("validation")
        return columns["train"], columns["test"]

    def read_validation(self) -> Batch | None:
        """Where there is one beside train and test."""
        return self._validation

    def _find_shape(
        self, channels: int | None, size: int | Sequence[int] | None, fit: Fit
    ) -> Shape:
        fault = ""
        for name, file in self.candidates():
            try:
                return shape_like(file, channels, size, fit)
            except UnreadableError as error:
                # Decoding will name it, together with any others.
                fault = fault or f"{name} {error}, nor is any other"
        raise ValueError(fault or "the training split has no picture")

    def say(self, note: str) -> None:
        """Tell on standard error what was decided or left out."""
        print(f"data: {note}", file=sys.stderr)

    def _set_aside(self, pictures: Pictures) -> tuple[Pictures, Pictures]:
        """A test split of what is all for training, said."""
        targets = torch.tensor(pictures.targets)
        columns = {"row": torch.arange(len(targets)), "target": targets}
        rows = [part["row"].tolist() for part in split(columns, self.test)]
        self.say(
            f"no test split is given: {len(rows[1]):,} of {len(targets):,} pictures are set aside "
            "as one, the same for every seed."
        )
        return pictures.only(rows[0]), pictures.only(rows[1])

    def loader(
        self,
        columns: Batch,
        rows: Tensor | None,
        batch_size: int,
        device: torch.device,
        seed: int = 0,
        shuffle: bool = False,
    ) -> Loader:
        """From memory, or streamed from the files."""
        if not self._streams:
            return super().loader(columns, rows, batch_size, device, seed, shuffle)
        assert isinstance(columns, _StoredColumns)
        prepare = self.prepare(device)
        return StreamLoader(
            columns.files, rows, batch_size, device, prepare, seed, shuffle, self.workers
        )
