"""Anyone's own images with masks, which say of each pixel what class it is of."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import EXTENT, Batch, DataSpec, Draw, Field, Reader
from dltrain.contracts.paths import FilePath
from dltrain.data.cache import state
from dltrain.data.images.listing import Unused
from dltrain.data.images.normalize import Normalize
from dltrain.data.images.source import ImageAugment
from dltrain.data.masks.classes import (
    IGNORED,
    Coding,
    Meaning,
    find_meaning,
    packed,
    read_classes,
)
from dltrain.data.masks.dividing import PairSplits
from dltrain.data.masks.pairs import Pair, find_pairs
from dltrain.data.masks.reader import SegmentedReader
from dltrain.data.masks.splits import MaskRows, StoredRows, opened
from dltrain.data.masks.store import Asked, Found, Touching, stored, with_name
from dltrain.data.streams.division import Division
from dltrain.data.streams.in_memory import Prepare, Split
from dltrain.data.streams.source import ArraySource

logger = logging.getLogger(__name__)

GIB = 2**30


class ImageMasks(ArraySource):
    """Columns ``input`` (n, c, h, w) uint8 and ``target`` (n, h, w) of classes, from ``path``.

    ``images`` and ``masks`` say where they are below it (:func:`.pairs.find_pairs`). ``classes``
    are their names, or colors by name, or ``classes_file`` has them
    (:func:`.classes.read_classes`); ``values``
    the pixel values of the classes in order, ``ignore`` values or names that count for nothing
    (:func:`.classes.find_meaning`).

    ``test`` and ``validation`` are fractions, or files that list images; ``table`` is a csv file
    whose column ``group``, ``order`` or ``split_column`` divides them, and ``order=name`` is the
    order of the files' names and pages (:class:`.dividing.PairSplits`).

    Images are read at their own size, and padded to that of the largest; what is padding counts
    for nothing, and evaluations ask without it. Training examples are boxes of ``crop_size``, at
    random places; null: whole images. ``tile`` cuts images with a longer side into tiles of that
    side, which share ``overlap`` pixels; each pixel counts in one of them. ``touching_weight``
    above 0 makes the weight map of :func:`.touching.touching_weights` of the class
    ``touching_class``. ``channels``, ``window``, ``memory_limit`` and ``workers`` are as for images
    of classes; ``skip_unmatched`` leaves out images without a mask, ``skip_unreadable`` pairs that
    cannot be read or differ in size.

    Reading raises ``ValueError`` and :class:`~dltrain.errors.UserError` for anything doubtful.
    """

    def __init__(
        self,
        path: FilePath,
        root: FilePath,
        images: str | None = None,
        masks: str | None = None,
        classes: Sequence[str] | Mapping[str, Sequence[int]] | None = None,
        classes_file: FilePath | None = None,
        values: Sequence[int] | None = None,
        ignore: int | str | Sequence[int | str] | None = None,
        test: float | FilePath = 0.2,
        validation: float | FilePath = 0.1,
        table: FilePath | None = None,
        group: str | None = None,
        order: str | None = None,
        split_column: str | None = None,
        crop_size: int | Sequence[int] | None = None,
        tile: int | None = None,
        overlap: int = 64,
        touching_weight: float = 0.0,
        touching_sigma: float = 5.0,
        touching_class: str | None = None,
        channels: int | None = None,
        window: Sequence[float] | None = None,
        skip_unmatched: bool = False,
        skip_unreadable: bool = False,
        memory_limit: float = 4.0,
        workers: int = 2,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        augment: ImageAugment | None = None,
        **common: Any,
    ) -> None:
        self.dividing = PairSplits(test, validation, table, group, order, split_column)
        if not isinstance(validation, str):
            common["validation"] = validation
        super().__init__(root=root, **common)
        sides = [crop_size] * 2 if isinstance(crop_size, int) else list(crop_size or [])
        if len(sides) not in (0, 2) or min(sides, default=1) < 1:
            raise ValueError(f"crop_size is a side or [height, width] in pixels, got {crop_size}")
        if tile is not None and not 0 <= overlap <= tile // 2:
            raise ValueError(f"overlap is from 0 to half of tile, {tile // 2}, got {overlap}")
        if touching_weight < 0 or touching_sigma <= 0:
            raise ValueError("touching_weight is not negative, and touching_sigma above 0")
        if channels not in (None, 1, 3):
            raise ValueError(f"channels is 1 or 3, got {channels}")
        if window is not None and (len(window) != 2 or not window[0] < window[1]):
            raise ValueError(f"window is [low, high], two values, got {list(window)}")
        if memory_limit < 0 or workers < 0:
            raise ValueError("memory_limit and workers are not negative")
        if min(std) <= 0:
            raise ValueError(f"a standard deviation is above 0, got {list(std)}")
        self.path, self.images, self.masks = Path(path).expanduser(), images, masks
        self.classes = read_classes(classes, classes_file)
        self.values, self.ignore = values, ignore
        self._lists = [] if classes_file is None else [Path(classes_file).expanduser()]
        self.crop_size = (sides[0], sides[1]) if sides else None
        touching = None
        if touching_weight:
            touching = Touching(touching_weight, touching_sigma, touching_class)
        ends = None if window is None else (window[0], window[1])
        least = self.crop_size or (1, 1)
        self._asked = Asked(channels, ends, tile, overlap, least, touching, skip_unreadable)
        self.skip_unmatched = skip_unmatched
        self.memory_limit, self.workers = memory_limit, workers
        self.mean, self.std = tuple(mean), tuple(std)
        self.augment = augment or ImageAugment()
        self._found: Found | None = None
        self._padded = False
        """Whether an image is smaller than what it lies in."""
        self._rows: np.ndarray[Any, Any] = np.zeros(0, np.int64)
        if self.classes.names:
            meaning, _ = self._meaning(())
            with_name(touching, meaning)
        if channels is not None:
            self._check_channels(channels)

    def outline(self) -> DataSpec:
        """Channels and classes, as far as they are known; images of any size."""
        found = self._found
        channels = self._asked.channels if found is None else found.channels
        names = () if found is None else found.names
        colors = () if found is None else found.colors
        shape = (None, None)
        fields = {
            "input": Field((channels, *shape), "image", "input", mean=self.mean, std=self.std),
            "target": Field(
                shape, "mask", "target", len(names) or None, names, fill=IGNORED, colors=colors
            ),
        }
        if self._asked.touching is not None:
            fields["weight"] = Field(shape, "mask", fill=0)
        return DataSpec(fields, complete=found is not None)

    def splits(self) -> dict[str, Split]:
        assert self.root is not None
        unused = Unused()
        found = find_pairs(self.path, self.images, self.masks, self.skip_unmatched, unused)
        pairs = self.dividing.divided(found, self.path)
        self._found, parts = stored(
            Path(self.root).expanduser() / "cache",
            self._key(pairs),
            self._asked,
            pairs,
            self._meaning,
            Coding.of((packed(color), 0) for color in self.classes.colors),
        )
        self._check_channels(self._found.channels)
        size = sum(path.stat().st_size for part in parts.values() for path in part.files.values())
        streamed = size > self.memory_limit * GIB
        splits = {n: opened(part, streamed, self.workers) for n, part in parts.items()}
        self._rows = parts["train"].images
        self._padded = any(part.padded for part in parts.values())
        self._say(self._found, splits, pairs, unused)
        return dict(splits)

    def division(self, train: Split) -> Division:
        """Tiles of one image stay together; the rest is as the column says that divides."""
        return self.dividing.division(self._rows) or super().division(train)

    def spec(self, splits: Mapping[str, Split]) -> DataSpec:
        """All there is to know, how many pixels each class has included."""
        known = dict(self.outline().fields)
        train = splits["train"]
        assert isinstance(train, (MaskRows, StoredRows))
        counts = tuple(train.pixels.sum(0).tolist())
        target = known["target"]
        known["target"] = Field(
            target.shape, "mask", "target", target.size, target.names, counts,
            IGNORED, colors=target.colors,
        )  # fmt: skip
        none = [name for name, count in zip(target.names, counts, strict=True) if not count]
        if not sum(counts):
            raise ValueError("ignore leaves no pixel of a training mask: there is nothing to learn")
        if none:
            logger.warning("no training image has a pixel of %s.", ", ".join(none))
        return DataSpec(known)

    def prepare(self, device: torch.device) -> Prepare:
        """Crop and augment when asked, images and masks together; normalize."""
        fields = self.outline().fields
        normalize = Normalize(self.mean, self.std, device)
        augment, size = self.augment, self.crop_size

        def prepare(batch: Batch, draw: Draw | None) -> Batch:
            extent = batch.pop(EXTENT)
            if draw is None and self._padded:
                batch[EXTENT] = extent
            if draw is not None and (size is not None or augment.active):
                corner = None if size is None else corners(extent, size, draw.generator)
                batch = augment(batch, draw, fields, size, corner)
            batch["input"] = normalize(batch["input"])
            return batch if draw is None else augment.after(batch, draw, fields)

        return prepare

    def reader(self) -> Reader:
        """Images of any size, each as a batch of its own."""
        assert self._found is not None, "read() comes first"
        return SegmentedReader(self._found.channels, self.mean, self.std, window=self._found.window)

    def raw(self, inputs: Tensor) -> Sequence[Any]:
        """Arrays (height, width, channels) of what the splits hold, padding included."""
        return list(inputs.permute(0, 2, 3, 1).contiguous().numpy())

    def paths(self) -> list[Path]:
        """The folder, and the files that name classes and divide the images."""
        return [self.path, *self._lists, *self.dividing.paths]

    def _meaning(self, seen: Collection[int]) -> tuple[Meaning, str]:
        """What the values of masks mean, of which training masks have ``seen``."""
        return find_meaning(self.classes, self.values, self.ignore, seen)

    def _check_channels(self, channels: int) -> None:
        """Raise :class:`ValueError` where settings are for another number of channels."""
        if not {len(self.mean), len(self.std)} <= {1, channels}:
            raise ValueError(
                f"mean and std have {len(self.mean)} and {len(self.std)} numbers; the images "
                f"have {channels} channels"
            )
        known = DataSpec({**self.outline().fields})
        image = Field((channels, None, None), "image", "input")
        self.augment.check({**known.fields, "input": image})

    def _key(self, pairs: Mapping[str, Sequence[Pair]]) -> dict[str, Any]:
        """All that decides what is read, for the cache."""
        files = [
            (split, str(page), *state(page.path))
            for split, some in pairs.items()
            for pair in some
            for page in (pair.image, pair.mask)
        ]
        digest = hashlib.sha256(json.dumps(files).encode()).hexdigest()
        classes = [self.classes.names, self.classes.colors, self.values, self.ignore]
        return {"source": "masks", "files": digest, "classes": classes}

    def _say(
        self,
        found: Found,
        splits: Mapping[str, MaskRows | StoredRows],
        pairs: Mapping[str, Sequence[Pair]],
        unused: Unused,
    ) -> None:
        """The first words of a run: what was read, and what was left out."""
        total = sum(split.pixels.sum(0) for split in splits.values())
        assert isinstance(total, Tensor)
        parts = (total / total.sum().clamp_min(1)).tolist()
        listed = ", ".join(
            f"{name} {part:.1%}" for name, part in zip(found.names, parts, strict=True)
        )
        counts = ", ".join(f"{name} {len(some):,}" for name, some in pairs.items())
        lines = [
            f"{self.path}: images with masks: {counts}; {len(found.names)} classes of pixels: "
            f"{listed}",
            *found.told,
        ]
        logger.info("%s", "\n  ".join(lines))
        if unused.counts:
            level = logging.WARNING if unused.images else logging.INFO
            logger.log(level, "not used: %s", unused)
        for line in found.warnings:
            logger.warning("%s", line)


def corners(extent: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Top and left (batch, 2) of boxes of ``size``, drawn where images of ``extent`` are."""
    drawn = torch.rand(extent.shape, generator=generator, device=extent.device)
    room = torch.stack([extent[:, 0] - size[0], extent[:, 1] - size[1]], 1).clamp_min(0)
    return (drawn * (room + 1)).long().minimum(room.long())
