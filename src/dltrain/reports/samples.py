"""Images that a network generates, as files: one, many, and how they come to be.

Bytes are images (n, height, width, channels) of 0..255, which is what files and checkpoints hold.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from dltrain.reports.moving import gif
from dltrain.reports.sheets import mosaic

MOST_CLASSES = 20
"""Beyond that, a column for each class makes a sheet too wide."""
HEAD = 24
"""Pixels for a line above a frame."""

Bytes = NDArray[np.uint8]


def to_bytes(images: ArrayLike) -> Bytes:
    """Bytes from values in 0..1 of shape (n, channels, height, width)."""
    values = np.asarray(images, dtype=np.float32).transpose(0, 2, 3, 1)
    return np.rint(values.clip(0, 1) * 255).astype(np.uint8)


def class_columns(classes: int) -> int | None:
    """How many columns give each of ``classes`` that come in turn one; None for too many."""
    return classes if 1 < classes <= MOST_CLASSES else None


def sheet(images: Bytes, columns: int | None = None) -> bytes:
    """The bytes of a PNG file with all images, small ones enlarged; as a square by default."""
    return _png(mosaic(images / 255, columns or _square(images)))


def single(image: Bytes) -> bytes:
    """The bytes of a PNG file with one image (height, width, channels), pixel for pixel."""
    return _png(image if image.shape[2] == 3 else image.mean(2).astype(np.uint8))


def indexed(numbers: NDArray[np.uint8], colors: Sequence[Sequence[int]]) -> bytes:
    """The bytes of a PNG file whose pixels are ``numbers`` (height, width), shown in colors."""
    image = Image.fromarray(numbers)
    image.putpalette([part for color in colors for part in color])
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def animate_samples(
    frames: Sequence[Bytes], lines: Sequence[str], columns: int | None = None
) -> bytes:
    """The bytes of a GIF file of sheets, each with a line above it."""
    font = ImageFont.load_default(HEAD * 0.6)
    sheets = []
    for images, line in zip(frames, lines, strict=True):
        values = mosaic(images / 255, columns or _square(images))
        image = Image.fromarray(np.pad(values, ((HEAD, 0), (0, 0), (0, 0)), constant_values=255))
        ImageDraw.Draw(image).text((2, HEAD / 2), line, "black", font, anchor="lm")
        sheets.append(image)
    return gif(sheets)


def _square(images: NDArray[Any]) -> int:
    return math.ceil(math.sqrt(len(images)))


def _png(values: Bytes) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "png")
    return file.getvalue()
