"""From any image file to uint8 channels, height, width."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dltrain.data.images.wide import SIXTEEN, Window, is_wide, to_bytes, wide_values
from dltrain.files import require_file

if TYPE_CHECKING:
    from PIL.Image import Image

Fit = Literal["crop", "pad", "stretch"]

MOST_PIXELS = 89_478_485
"""What Pillow warns from; nobody reads the warnings of a hundred thousand images."""
FORMATS = (
    *("JPEG", "PNG", "GIF", "BMP", "DIB", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000"),
    *("ICO", "PCX", "SGI", "DDS"),
)
"""What files are tried as. Of Pillow's others, EPS starts a program, and TGA has no signature."""
FOREIGN = {
    **dict.fromkeys((".heic", ".heif"), "HEIC"),
    **dict.fromkeys((".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2"), "raw data"),
    **dict.fromkeys((".svg", ".svgz"), "SVG"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **dict.fromkeys((".psd", ".eps", ".jxl", ".exr", ".hdr"), "a format"),
}
"""Endings of images that are not read here, and what they are."""


@dataclass(frozen=True)
class Shape:
    """What every image is made into.

    ``fit`` says how another shape becomes ``height`` x ``width``: the middle of it (crop), all of
    it between bars of 0 (pad), or distorted (stretch); null refuses any other size. ``window`` are
    the values of pixels of more than 8 bits that become 0 and 255; null: 0 and 65535.
    """

    channels: int
    height: int
    width: int
    fit: Fit | None
    window: Window | None = None


class UnreadableError(Exception):
    """Bytes that are no image, or none that is wanted; says why."""


class OtherSizeError(Exception):
    """An image of another size than all others, where it is not to be changed."""


@dataclass(frozen=True)
class Opened:
    """An upright image; ``values`` (height, width[, 3]) where 8 bits do not hold its pixels."""

    image: Image
    values: np.ndarray[Any, Any] | None = None


def decode(file: Path | bytes, shape: Shape) -> np.ndarray[Any, Any]:
    """Return the image as (channels, height, width) uint8, upright.

    Raises :class:`UnreadableError`, and :class:`OtherSizeError`.
    """
    return fitted(open_upright(file), shape)


def fitted(opened: Opened, shape: Shape) -> np.ndarray[Any, Any]:
    """An upright image as (channels, height, width) uint8.

    Raises :class:`UnreadableError`, and :class:`OtherSizeError`.
    """
    from PIL import Image, ImageOps

    if opened.image.mode == "F" and shape.window is None:
        raise UnreadableError("has floating-point pixels, of which nobody says what is white")
    image = on_white(opened, shape.window or SIXTEEN)
    try:
        mode = "L" if shape.channels == 1 else "RGB"
        image = image if image.mode == mode else image.convert(mode)
    except ValueError as error:
        raise UnreadableError(f"has colors of a kind that is not read: {image.mode}") from error
    size = (shape.width, shape.height)
    if image.size != size:
        if shape.fit is None:
            raise OtherSizeError(
                f"is {image.width}x{image.height} where others are {size[0]}x{size[1]}"
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


def on_white(opened: Opened, window: Window) -> Image:
    """The image in 8 bits; what is transparent lies on white, as on a page."""
    from PIL import Image

    image = opened.image
    if opened.values is not None:
        narrow = Image.fromarray(to_bytes(opened.values, window))
        if image.has_transparency_data and image.mode == "RGBA":
            narrow.putalpha(image.getchannel("A"))
        image = narrow
    if image.has_transparency_data:
        image = image if image.mode == "RGBA" else image.convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(page, image).convert("RGB")
    return image


def open_file(file: Path | bytes) -> Image:
    """Open an image, reading no more than its header. Raises :class:`UnreadableError`."""
    from PIL import Image, UnidentifiedImageError

    if file == b"":
        raise UnreadableError("is no image that can be read: it is empty")
    try:
        if isinstance(file, Path):
            require_file(file)
        with warnings.catch_warnings():  # on its size, which is refused below
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(
                io.BytesIO(file) if isinstance(file, bytes) else file, formats=_formats()
            )
        if isinstance(file, Path) and image.format == "TIFF" and orientation(image) >= 5:
            # Pillow maps plain TIFF files into memory by the size that they are turned to.
            return open_file(file.read_bytes())
        _require_few_pixels(image)
        return image
    except UnreadableError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableError(_no_image(file)) from error
    except OSError as error:
        raise UnreadableError(
            f"is no image that can be read: {error.strerror or _first_line(error)}"
        ) from error
    except Exception as error:
        # Whatever is wrong with a stranger's bytes comes out of Pillow's readers as any exception.
        raise UnreadableError(f"is no image that can be read: {_first_line(error)}") from error


def _require_few_pixels(image: Image) -> None:
    """Raise :class:`UnreadableError` for an image that takes more memory than a photo should.

    Of more than 8 bits, or transparent, it takes twice as much.
    """
    pixels = image.width * image.height
    most = MOST_PIXELS // (2 if is_wide(image) or image.has_transparency_data else 1)
    if pixels > most:
        raise UnreadableError(f"has {pixels:,} pixels, of {most:,} at most: scale it down")


@cache
def _formats() -> list[str]:
    """Those of :data:`FORMATS` that this Pillow was built with."""
    from PIL import Image

    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _no_image(file: Path | bytes) -> str:
    if isinstance(file, Path):
        foreign = FOREIGN.get(file.suffix.lower())
        if foreign is not None:
            return f"is {foreign} that is not read here; convert it to PNG or JPEG"
        if not file.stat().st_size:
            return "is no image that can be read: it is empty"
    return "is no image that can be read"


def open_upright(file: Path | bytes) -> Opened:
    """Open an image, as :func:`upright` has it. Raises :class:`UnreadableError`."""
    return upright(open_file(file), lambda: open_file(file))


def upright(image: Image, again: Callable[[], Image] | None = None) -> Opened:
    """Turn an image as its EXIF data says.

    ``again`` opens the same file once more; null: the file that Pillow says it is of. Raises
    :class:`UnreadableError`.
    """
    from PIL import ImageOps

    name = getattr(image, "filename", "")
    if again is None and name:
        again = partial(open_file, Path(name))
    try:
        values = wide_values(image, again)
        image.load()
        _require_few_pixels(image)  # an icon says so only now
        if values is None:
            turn = orientation(image)
            return Opened(image if turn == 1 else ImageOps.exif_transpose(image))
        turn = orientation(image)
        image = ImageOps.exif_transpose(image)
    except UnreadableError:
        raise
    except Exception as error:
        # As above: decoders raise what they like at damaged bytes.
        raise UnreadableError(
            f"is no image that can be read to its end: {_first_line(error)}"
        ) from error
    if not np.isfinite(values).all():
        raise UnreadableError("has pixels that are no finite numbers")
    return Opened(image, turned(values, turn))


def orientation(image: Image) -> int:
    """How the image is to be turned, from 1 (not at all) to 8, as EXIF counts it."""
    return int(image.getexif().get(0x0112, 1) or 1)


def turned(values: np.ndarray[Any, Any], orientation: int) -> np.ndarray[Any, Any]:
    """Pixels (height, width, …) as EXIF's ``orientation`` says they are seen."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
