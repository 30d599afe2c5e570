"""Sources of images that are decoded once, and read or streamed from then on."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dltrain.contracts.data import DataSpec, Field, Reader
from dltrain.contracts.paths import FilePath
from dltrain.data.cache import EncodedImages, Stored, decoded
from dltrain.data.images.decode import Fit, Shape
from dltrain.data.images.listing import Unused
from dltrain.data.images.reader import ImageReader
from dltrain.data.images.source import ImageSource
from dltrain.data.images.survey import Asked
from dltrain.data.images.tally import Tally, warnings, what_was_read
from dltrain.data.streams.division import hold_out_test
from dltrain.data.streams.in_memory import InMemory, Prepare, Split
from dltrain.data.streams.on_disk import InFiles
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

GIB = 2**30
SIDE = 256
"""Pixels of a side of images of several sizes, where the task takes any and none was given."""
SHOWN = 5
LISTED = 20


class DecodedImages(ImageSource):
    """Images of any format and size, made alike and kept as uint8 in ``root``'s folder cache.

    ``size`` is a side or (height, width); null: that of the images, which must be one. ``fit``
    says how an image of another shape gets there: crop, pad or stretch. ``channels`` is 1 (gray)
    or 3; null: 3 where any image has color. ``window`` are the values of pixels of more than 8
    bits that become black and white; null: as those of the training images need.
    ``skip_unreadable`` leaves out, counts and lists what is no image, instead of refusing it. Up
    to ``memory_limit`` GiB are held in memory; more is streamed by ``workers`` processes. ``test``
    is the fraction set aside as test split where none is given: the same images for every seed.
    """

    def __init__(
        self,
        root: FilePath,
        size: int | Sequence[int] | None = None,
        fit: Fit = "crop",
        channels: int | None = None,
        window: Sequence[float] | None = None,
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
        if window is not None and (len(window) != 2 or not window[0] < window[1]):
            raise ValueError(f"window is [low, high], two values, got {list(window)}")
        if not 0 < test < 1:
            raise ValueError(f"test is a fraction between 0 and 1, got {test}")
        if memory_limit < 0 or workers < 0:
            raise ValueError("memory_limit and workers are not negative")
        self.test, self.skip_unreadable = test, skip_unreadable
        self.memory_limit, self.workers = memory_limit, workers
        height, width = (sides * 2)[:2] if sides else (None, None)
        self.input_shape = channels, height, width
        ends = None if window is None else (window[0], window[1])
        self._asked = Asked(channels, size if size is None else tuple(sides * 2)[:2], fit, ends)
        self.window = ends
        self.unused = Unused()
        self.multilabel = self.unlabeled = False
        self.groups: np.ndarray[Any, Any] | None = None
        super().__init__(root=root, mean=mean, std=std, **common)

    @abstractmethod
    def files(self) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        """All that decides the content, for the cache; and ``train``, ``validation``, ``test``.

        The last two only where they are given. It sets ``class_names``.
        """

    @property
    @abstractmethod
    def place(self) -> str:
        """Where the images are, as a user calls it."""

    @property
    def fit(self) -> Fit:
        return self._asked.fit

    def splits(self) -> dict[str, Split]:
        assert self.root is not None
        self.unused = Unused()
        key, parts = self.files()
        parts = dict(parts)
        if "test" not in parts:
            parts["train"], parts["test"] = self._set_aside(parts["train"])
        folder = Path(self.root).expanduser() / "cache"
        key = key | {"test": self.test}
        asked = replace(self._asked, otherwise=SIDE) if self.any_size else self._asked
        shape, stored = decoded(folder, key, asked, parts, self.skip_unreadable, self._take_shape)
        size = sum(path.stat().st_size for part in stored.values() for path in part.files.values())
        streamed = size > self.memory_limit * GIB
        splits = {name: self._opened(part, streamed) for name, part in stored.items()}
        self.groups = None if stored["train"].groups is None else np.load(stored["train"].groups)
        self._say(shape, {name: part.tally for name, part in stored.items()}, splits)
        for name, split in splits.items():
            if not len(split):
                raise UserError(f"data: no image is left for the split {name!r}.")
        return splits

    def outline(self) -> DataSpec:
        """Where an image has any number of labels, the target has one number for each.

        Where it has none, there is no target.
        """
        known = super().outline()
        if self.unlabeled:
            return DataSpec({"input": known.fields["input"]}, None not in self.input_shape)
        if not self.multilabel:
            return known
        names = tuple(self.class_names)
        target = Field((len(names),), "labels", "target", size=len(names), names=names)
        return DataSpec({"input": known.fields["input"], "target": target}, known.complete)

    def prepare(self, device: torch.device) -> Prepare:
        """Normalize, and augment when asked; without a target, where there is none."""
        made = super().prepare(device)
        if not self.unlabeled:
            return made
        return lambda batch, draw: {"input": made(batch, draw)["input"]}

    def spec(self, splits: Mapping[str, Split]) -> DataSpec:
        """All there is to know, how often each label is there included."""
        known = super().spec(splits)
        if not self.multilabel:
            return known
        counts = _counts(splits["train"], len(self.class_names))
        target = replace(known.fields["target"], counts=tuple(counts))
        return DataSpec({"input": known.fields["input"], "target": target})

    def reader(self) -> Reader:
        """Images of any size, and of any depth that the run's had."""
        channels, height, width = self.input_shape
        assert channels and height and width, "read() comes first"
        return ImageReader(
            channels, height, width, self.mean, self.std, self.fit, window=self.window
        )

    def _take_shape(self, shape: Shape) -> None:
        """Know what images are made into. Raises ValueError where settings are for another."""
        self.input_shape = shape.channels, shape.height, shape.width
        self.window = None if shape.window is None else (shape.window[0], shape.window[1])
        self.check_channels()

    def _say(self, shape: Shape, tallies: Mapping[str, Tally], splits: Mapping[str, Split]) -> None:
        """The first words of a run: what was read, and what was left out."""
        names = self.class_names
        counts = {
            name: [] if self.unlabeled else _counts(s, len(names)) for name, s in splits.items()
        }
        images = sum(len(split) for split in splits.values())
        total = [sum(numbers) for numbers in zip(*counts.values(), strict=True)]
        kind = "labels" if self.multilabel else "classes"
        content = "no classes" if self.unlabeled else _listed(kind, names, total)
        lines = [f"{self.place}: {images:,} images, {content}"]
        lines.append(f"read: {what_was_read(tallies.values(), shape)}")
        logger.info("%s", "\n  ".join(lines))
        if self._asked.size is None and shape.fit is not None:
            logger.info("they are of several sizes: data.size was taken as %d.", SIDE)
        if self.unused.counts:
            level = logging.WARNING if self.unused.images else logging.INFO
            logger.log(level, "not used: %s", self.unused)
        for split, numbers in counts.items():
            none = [name for name, number in zip(names, numbers, strict=True) if not number]
            if none:
                shown = ", ".join(none[:SHOWN]) + (", …" if len(none) > SHOWN else "")
                logger.warning("The %s split has no image of %s.", split, shown)
        for line in warnings(tallies, shape):
            logger.warning("%s", line)

    def _opened(self, stored: Stored, streamed: bool) -> Split:
        if streamed:
            return InFiles(stored.files, None, self.workers)
        columns = {name: np.load(path) for name, path in stored.files.items()}
        return InMemory({name: torch.from_numpy(array) for name, array in columns.items()})

    def _set_aside(self, images: EncodedImages) -> tuple[EncodedImages, EncodedImages]:
        """A test split of what is all for training, with a note that says so."""
        targets = torch.from_numpy(images.targets)
        # Several labels are no classes to be divided one by one.
        groups = torch.zeros(len(targets)) if self.multilabel else targets
        rows, test = hold_out_test(groups, self.test)
        logger.info(
            "no test split is given: %s of %s images are set aside as one, the same for every "
            "seed.",
            *(f"{len(test):,}", f"{len(images.targets):,}"),
        )
        return images.only(rows.tolist()), images.only(test.tolist())


def _counts(split: Split, classes: int) -> list[int]:
    """How many examples of each class there are."""
    targets = split.columns["target"]
    counts = targets.sum(0) if targets.ndim > 1 else targets.bincount(minlength=classes)
    return [int(count) for count in counts.tolist()]


def _listed(kind: str, names: Sequence[str], counts: Sequence[int]) -> str:
    """Classes with their counts, or how many there are of so many."""
    if len(names) > LISTED:
        return f"{len(names):,} {kind} of {min(counts):,} to {max(counts):,}"
    pairs = zip(names, counts, strict=True)
    return f"{len(names)} {kind}: " + ", ".join(f"{name} {count:,}" for name, count in pairs)
