"""From any image file to uint8 channels, height, width."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Fit = Literal["crop", "pad", "stretch"]


@dataclass(frozen=True)
class Shape:
    """What every image is made into.

    ``fit`` says how another shape becomes ``height`` x ``width``: the middle of it (crop), all of
    it between bars of 0 (pad), or distorted (stretch); null refuses any other size.
    """

    channels: int
    height: int
    width: int
    fit: Fit | None


class UnreadableError(Exception):
    """Bytes that are no image, or none that is wanted; says why."""


def decode(file: Path | bytes, shape: Shape) -> np.ndarray[Any, Any]:
    """Return the image as (channels, height, width) uint8, upright.

    Raises :class:`UnreadableError`.
    """
    return fitted(open_upright(file), shape)


def fitted(image: Image, shape: Shape) -> np.ndarray[Any, Any]:
    """An upright image as (channels, height, width) uint8. Raises :class:`UnreadableError`."""
    from PIL import Image, ImageOps

    image = image.convert("L" if shape.channels == 1 else "RGB")
    size = (shape.width, shape.height)
    if image.size != size:
        if shape.fit is None:
            raise UnreadableError(
                f"is {image.width}x{image.height} where others are {size[0]}x{size[1]}; "
                "give data.size"
            )
        resample = Image.Resampling.BILINEAR
        if shape.fit == "stretch":
            image = image.resize(size, resample)
        elif shape.fit == "crop":
            image = ImageOps.fit(image, size, resample)
        else:
            image = ImageOps.pad(image, size, resample, color=0)
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if shape.channels == 1 else pixels.transpose(2, 0, 1)


def open_upright(file: Path | bytes) -> Image:
    """Open an image, as :func:`upright` has it. Raises :class:`UnreadableError`."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(file) if isinstance(file, bytes) else file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableError("is no image that can be read") from error
    return upright(image)


def upright(image: Image) -> Image:
    """Turn an image as its EXIF data says, in mode L, RGB, or one that converts to them.

    16 bits become 8; what is transparent lies on white, as on a page.
    Raises :class:`UnreadableError`.
    """
    from PIL import Image, ImageOps

    try:
        image.load()
        image = ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnreadableError("is no image that can be read") from error
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64).clip(0, 65535)
        return Image.fromarray((values // 257).astype(np.uint8))
    if image.mode == "F":
        raise UnreadableError("has floating-point pixels, of which nobody says what is white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image


def shape_like(
    file: Path | bytes, channels: int | None, size: int | Sequence[int] | None, fit: Fit
) -> Shape:
    """The shape as asked; what was not asked for, as the image ``file`` has it.

    ``size`` is a side or (height, width). Raises :class:`UnreadableError`.
    """
    if channels is None or size is None:
        first = open_upright(file)
        channels = channels or (1 if first.mode in ("1", "L") else 3)
    if size is None:
        return Shape(channels, first.height, first.width, None)
    height, width = (size, size) if isinstance(size, int) else size
    return Shape(channels, height, width, fit)
