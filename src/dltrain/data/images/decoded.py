"""Sources of images that are decoded once, and read or streamed from then on."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dltrain.contracts.paths import FilePath
from dltrain.data.cache import EncodedImages, Stored, decoded
from dltrain.data.images.decode import Fit, Shape, UnreadableError, shape_like
from dltrain.data.images.source import ImageSource
from dltrain.data.streams.on_disk import InFiles
from dltrain.data.streams.splits import InMemory, Split, hold_out_test
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

GIB = 2**30


class DecodedImages(ImageSource):
    """Images of any format and size, made alike and kept as uint8 in ``root``'s folder cache.

    ``size`` is a side or (height, width); null: that of the first image, which all must have.
    ``fit`` says how an image of another shape gets there: crop, pad or stretch. ``channels`` is
    1 (gray) or 3; null: as the first image has it. ``skip_unreadable`` leaves out, counts and
    lists what is no image, instead of refusing it. Up to ``memory_limit`` GiB are held in
    memory; more is streamed by ``workers`` processes. ``test`` is the fraction set aside as test
    split where none is given: the same images for every seed.
    """

    def __init__(
        self,
        root: FilePath,
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
            raise ValueError(f"test is a fraction between 0 and 1, got {test}")
        if memory_limit < 0 or workers < 0:
            raise ValueError("memory_limit and workers are not negative")
        self.test, self.skip_unreadable = test, skip_unreadable
        self.memory_limit, self.workers = memory_limit, workers
        height, width = (sides * 2)[:2] if sides else (None, None)
        self.input_shape = channels, height, width
        self._channels, self._size, self._fit = channels, size, fit
        super().__init__(root=root, mean=mean, std=std, **common)

    @abstractmethod
    def files(self) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        """All that decides the content, for the cache; and ``train``, ``validation``, ``test``.

        The last two only where they are given. It sets ``class_names``.
        """

    @property
    def fit(self) -> Fit:
        """As asked."""
        return self._fit

    def splits(self) -> dict[str, Split]:
        """Decode what was not decoded before, and open it."""
        assert self.root is not None
        key, found = self.files()
        shape = self._find_shape(found["train"])
        self.input_shape = shape.channels, shape.height, shape.width
        self.check_channels()
        parts = dict(found)
        if "test" not in parts:
            parts["train"], parts["test"] = self._set_aside(parts["train"])
        key = key | {"test": self.test}
        folder = Path(self.root).expanduser() / "cache"
        stored = decoded(folder, key, shape, parts, self.skip_unreadable)
        for name, part in stored.items():
            if part.skipped:
                listed = "".join(f"\n  {line}" for line in part.skipped)
                logger.warning("%d files of %s skipped:%s", len(part.skipped), name, listed)
        size = sum(path.stat().st_size for part in stored.values() for path in part.files.values())
        streamed = size > self.memory_limit * GIB
        splits = {name: self._opened(part, streamed) for name, part in stored.items()}
        for name, split in splits.items():
            if not len(split):
                raise UserError(f"data: no image is left for the split {name!r}.")
        return splits

    def _opened(self, stored: Stored, streamed: bool) -> Split:
        if streamed:
            return InFiles(stored.files, None, self.workers)
        columns = {name: np.load(path) for name, path in stored.files.items()}
        return InMemory({name: torch.from_numpy(array) for name, array in columns.items()})

    def _find_shape(self, images: EncodedImages) -> Shape:
        """As asked; what was not asked for, as the first image has it."""
        fault = ""
        for row, name in enumerate(images.names):
            try:
                return shape_like(images.get(row), self._channels, self._size, self._fit)
            except UnreadableError as error:
                # Decoding will name it, together with any others.
                fault = fault or f"{name} {error}, nor is any other"
        raise ValueError(fault or "the training split has no image")

    def _set_aside(self, images: EncodedImages) -> tuple[EncodedImages, EncodedImages]:
        """A test split of what is all for training, with a note that says so."""
        rows, test = hold_out_test(torch.tensor(images.targets), self.test)
        logger.info(
            "no test split is given: %s of %s images are set aside as one, the same for every "
            "seed.",
            *(f"{len(test):,}", f"{len(images.targets):,}"),
        )
        return images.only(rows.tolist()), images.only(test.tolist())
