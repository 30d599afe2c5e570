"""Two images: one whose content is kept, one whose style is taken."""

from __future__ import annotations

import hashlib
import itertools
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import Batch, DataSpec, Field, Placement, Source, Stream, Streams
from dltrain.contracts.paths import FilePath
from dltrain.data.images.decode import MOST_PIXELS, UnreadableError, on_white, open_upright
from dltrain.data.images.survey import read_header
from dltrain.data.images.wide import SIXTEEN
from dltrain.errors import UserError, require_at_least

logger = logging.getLogger(__name__)

SMALLEST = 16
"""Pixels of the shorter side, below which there is no style to be seen."""


class StyleImages(Source):
    """The images ``content`` and ``style``, each with its longer side of ``size`` pixels.

    ``style_size`` is that of the style (null: as of the content): how large its strokes are. Both
    are (3, height, width) of 0..1. There is one batch, again and again, and no split but ``train``.

    Raises ValueError for sizes below 16, and where an image cannot be read or is too small.
    """

    def __init__(
        self, content: FilePath, style: FilePath, size: int = 256, style_size: int | None = None
    ) -> None:
        require_at_least(SMALLEST, size=size, style_size=style_size or size)
        self._paths = {"content": Path(content).expanduser(), "style": Path(style).expanduser()}
        self._sizes = {"content": size, "style": style_size or size}
        self._images: dict[str, Tensor] = {}

    def outline(self) -> DataSpec:
        """Two images of sizes that are not known yet."""
        return self._spec(dict.fromkeys(self._paths, (3, None, None)), complete=False)

    def read(self, seed: int) -> DataSpec:
        """Open both files."""
        for name, path in self._paths.items():
            try:
                self._images[name] = read_image(path, self._sizes[name])
            except ValueError as error:
                raise UserError(f"data.{name}: {error}.") from error
        shapes = {name: tuple(image.shape) for name, image in self._images.items()}
        return self._spec(shapes, complete=True)

    def open(self, placement: Placement) -> Streams:
        """The one batch, on the device."""
        batch = {n: image[None].to(placement.device) for n, image in self._images.items()}
        return {"train": Again(batch)}

    def identity(self) -> Mapping[str, Any]:
        """The bytes of both files, and the sizes that they were brought to."""
        return {
            name: {
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                "shape": list(self._images[name].shape),
            }
            for name, path in self._paths.items()
        }

    def _spec(self, shapes: Mapping[str, tuple[int | None, ...]], complete: bool) -> DataSpec:
        fields = {
            "content": Field(shapes["content"], "image", "input"),
            "style": Field(shapes["style"], "image", "other"),
        }
        return DataSpec(fields, complete)


class Again(Stream):
    """One batch of one example, without end."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    @property
    def steps_per_epoch(self) -> None:
        return None

    @property
    def examples(self) -> int:
        return 1

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return itertools.repeat(self._batch)

    def plain(self) -> Iterator[Batch]:
        yield self._batch

    def rows(self, epoch: int, position: int) -> Tensor:
        return torch.zeros(1, dtype=torch.int64)


def read_image(path: str | Path, size: int) -> Tensor:
    """An image (3, height, width) of 0..1, upright, its longer side ``size`` pixels.

    Raises ValueError where it cannot be read, or is too small for a style to be seen.
    """
    from PIL import Image

    path = Path(path).expanduser()
    try:
        image = on_white(open_upright(path), SIXTEEN).convert("RGB")
        paged = read_header(path).paged
    except UnreadableError as error:
        raise ValueError(f"{path} {error}") from error
    if paged:
        logger.info("%s has several pages or frames (%s): only the first is read.", path, paged)
    factor = size / max(image.size)
    width, height = (max(1, round(side * factor)) for side in image.size)
    told = f"{path} is of {image.width}x{image.height} pixels"
    if min(*image.size, width, height) < SMALLEST:
        raise ValueError(f"{told}, which become {width}x{height}: a side needs {SMALLEST} at least")
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"{told}, which would become {width:,}x{height:,}: that is more than {MOST_PIXELS:,}"
        )
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image).transpose(2, 0, 1).copy()).float() / 255
