"""Images in shards: Parquet files or tar archives."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from dltrain.contracts.data import DataSpec, Field, Labeled, Reader
from dltrain.data.images.decode import (
    Fit,
    Shape,
    UnreadableError,
)
from dltrain.data.images.reader import ImageReader
from dltrain.data.images.source import ImageAugment, prepare_images
from dltrain.data.images.survey import Asked, Header, find_shape, read_header
from dltrain.data.shards.image_columns import (
    label_of,
    only_image,
    packed_of,
    require_bytes,
    require_images,
    require_labels,
)
from dltrain.data.shards.image_files import ImageFiles
from dltrain.data.shards.labels import Labels, learn_labels
from dltrain.data.shards.lanes import Contents
from dltrain.data.shards.parquet import ParquetShards
from dltrain.data.shards.pieces import Shards
from dltrain.data.shards.source import Patterns, ShardSource
from dltrain.data.shards.tar import TarShards
from dltrain.data.streams.in_memory import Prepare
from dltrain.data.tables.files import PARQUET
from dltrain.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

TAR = (".tar",)
FIRST = 256
"""Images by which it is told what all of them are: those after them have to be alike."""
PLACES = 8
"""Of the shards from which they are taken."""


class ImageShards(ShardSource):
    """Images in Parquet files or tar archives, which stay there.

    ``image`` and ``label`` name the columns; null: the only one of images, and the one that is
    called label or the like. In a tar archive (WebDataset's layout) they are the endings of an
    example's members: ``jpg``, ``cls``, ``txt``, or ``json.KEY`` for a key of a JSON object.

    ``size``, ``fit``, ``channels``, ``window``, ``mean`` and ``std`` are as for
    :class:`~dltrain.data.images.decoded.DecodedImages`; where they are null, some first images
    tell, and one that is not like them is refused when it comes. ``skip_unreadable`` leaves out and
    counts what is no image, and members of tar archives without their pair.
    """

    def __init__(
        self,
        path: Patterns,
        image: str | None = None,
        label: str | None = None,
        size: int | Sequence[int] | None = None,
        fit: Fit = "crop",
        channels: int | None = None,
        window: Sequence[float] | None = None,
        skip_unreadable: bool = False,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
        augment: ImageAugment | None = None,
        **streaming: Any,
    ) -> None:
        super().__init__(path, **streaming)
        self.asked = asked_of(size, channels, window, fit)
        if min(std, default=0) <= 0:
            raise ValueError(f"std must be above 0 in each channel, got {list(std)}")
        self.image, self.label, self.skip_unreadable = image, label, skip_unreadable
        self.mean, self.std = tuple(mean), tuple(std)
        self.augment = augment or ImageAugment()
        self.shape: Shape | None = None
        self.labels: Labels | None = None
        if channels is not None:
            self._check()

    def shards(self, key: str, files: Sequence[Path]) -> Shards:
        kinds = {file.suffix.lower() for file in files}
        other = sorted(kinds - {*PARQUET, *TAR})
        if other:
            file = next(file for file in files if file.suffix.lower() == other[0])
            hint = " Unpack it first: gunzip." if other[0] in (".gz", ".tgz") else ""
            raise UserError(f"data.{key}: {file} is no .parquet and no .tar.{hint}")
        if len(kinds & set(TAR)) == len(kinds):
            wanted = self.image, self.label, self.target_needed
            return TarShards(key, files, *wanted, self.skip_unreadable, self.root)
        if kinds & set(TAR):
            raise UserError(f"data.{key}: its shards are of two kinds: {', '.join(sorted(kinds))}.")
        return self._parquet(key, files)

    def _parquet(self, key: str, files: Sequence[Path]) -> Shards:
        found = ParquetShards(key, files[:1], None)
        image = self.image or only_image(found.schema, files[0])
        found.require("image", image)
        require_images(found.schema.field(image), files[0])
        label = self.label or label_of(found.schema, files[0], self.target_needed)
        if label is not None:
            found.require("label", label)
            require_labels(found.schema.field(label), files[0])
        whole = ParquetShards(key, files, [image] if label is None else [image, label])
        whole.image, whole.label = image, label
        whole.class_names = () if label is None else whole.named_classes(label)
        return whole

    def read(self, seed: int) -> DataSpec:
        self.divide(seed)
        self.learn()
        return self.outline()

    def learn(self) -> None:
        """Classes by a pass over the labels; the shape by the first images."""
        shards = self.parts["train"].shards
        if shards.label is not None:
            self.labels = learn_labels(self.parts)
        elif self.target_needed:
            raise UserError("data.label: the shards have no labels, and this task learns some.")
        self.shape = self._shape(shards)
        self._check()

    def _shape(self, shards: Shards) -> Shape:
        """What all images are made into, by some of them."""
        headers: dict[int, Header] = {}
        names: dict[int, str] = {}
        every = max(1, len(shards.pieces) // PLACES)
        for piece in islice(shards.pieces, 0, None, every):
            rows = next(iter(shards.read(piece, [shards.image])), None)
            require_bytes(rows, shards.names[piece.shard])
            for row, file in enumerate(packed_of(rows.column(0)) if rows is not None else ()):
                if row >= FIRST // PLACES:
                    break
                try:
                    headers[len(headers)] = read_header(file)
                except UnreadableError as error:
                    if self.skip_unreadable:
                        continue
                    place = shards.place(piece.shard, piece.first + row)
                    raise UserError(
                        f"{place} {error}\nMend or remove it, or set data.skip_unreadable=true."
                    ) from error
                names[len(names)] = shards.place(piece.shard, piece.first + row)
        if self.asked.window is None and any(header.wide for header in headers.values()):
            raise UserError(
                "data.window: images have more than 8 bits, and not all of them are read before "
                "training; give [LOW,HIGH], what becomes black and white, such as [0,65535]."
            )
        shape = find_shape(self.asked, {"train": headers}, {"train": list(names.values())})
        logger.info(
            "images of %d channels, %dx%d, by %d of them; one of another kind is refused.",
            *(shape.channels, shape.height, shape.width, len(headers)),
        )
        return shape

    def _check(self) -> None:
        """Raise :class:`ValueError` where settings are for another number of channels."""
        channels = self.shape.channels if self.shape is not None else self.asked.channels
        if not {len(self.mean), len(self.std)} <= {1, channels}:
            raise ValueError(
                f"mean and std have {len(self.mean)} and {len(self.std)} numbers; the images "
                f"have {channels} channels"
            )
        try:
            self.augment.check(self.outline().fields)
        except ValueError as error:
            raise ValueError(f"augment.{error}") from error

    def outline(self) -> DataSpec:
        sides: tuple[int | None, ...] = (None, None)
        if isinstance(self.asked.size, Sequence):
            sides = tuple(self.asked.size)
        shape: tuple[int | None, ...] = (self.asked.channels, *sides)
        if self.shape is not None:
            shape = self.shape.channels, self.shape.height, self.shape.width
        fields = {"input": Field(shape, "image", "input", mean=self.mean, std=self.std)}
        if self.labels is not None:
            fields["target"] = self.labels.field
        elif self.shape is None and self.target_needed:
            fields["target"] = Field((), "class", "target")
        return DataSpec(fields, complete=self.shape is not None)

    def contents(self) -> Contents:
        assert self.shape is not None, "read() comes first"
        shards = self.parts["train"].shards
        wide = self.asked.window is not None
        return ImageFiles(
            *(shards.image, self.labels, self.shape, self.asked.channels is None),
            *(wide, self.skip_unreadable),
        )

    def prepare(self, device: torch.device) -> Prepare:
        return prepare_images(self.outline().fields, self.augment, device)

    def reader(self) -> Reader:
        shape = self.shape
        assert shape is not None, "read() comes first"
        return ImageReader(
            *(shape.channels, shape.height, shape.width, self.mean, self.std),
            *(self.asked.fit, shape.window),
        )

    def labeled_rows(self, rows: pa.RecordBatch) -> Labeled:
        if self.labels is None:
            raise UserError("data: its examples have no target to be evaluated by.")
        targets = self.labels.codes(rows.column(1))
        return Labeled(list(packed_of(rows.column(0))), torch.from_numpy(targets))


def asked_of(
    size: int | Sequence[int] | None,
    channels: int | None,
    window: Sequence[float] | None,
    fit: Fit,
) -> Asked:
    """What is asked for. Raises :class:`ValueError`."""
    sides = [size] * 2 if isinstance(size, int) else list(size or [])
    if (size is not None and len(sides) != 2) or min(sides, default=1) < 1:
        raise ValueError(f"size is a side or [height, width] in pixels, got {size}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels is 1 or 3, got {channels}")
    if window is not None and (len(window) != 2 or not window[0] < window[1]):
        raise ValueError(f"window is [low, high], two values, got {list(window)}")
    ends = None if window is None else (window[0], window[1])
    return Asked(channels, tuple(sides) if sides else None, fit, ends)
