"""From files to pixels and to the values of masks, page by page."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dltrain.data.images.decode import (
    Opened,
    Shape,
    UnreadableError,
    fitted,
    open_file,
    orientation,
    turned,
    upright,
)
from dltrain.data.images.survey import GRAY, Header
from dltrain.data.images.wide import Window, is_wide
from dltrain.data.masks.classes import Coding, Meaning
from dltrain.data.masks.pairs import Page

if TYPE_CHECKING:
    from PIL.Image import Image

MOST_VALUES = 1000
"""Different values of a mask beyond which they are no classes."""


@dataclass(frozen=True)
class MaskHeader:
    """What was found in a mask: the values of its pixels, and how many pixels have each.

    ``colored``: the values are colors, ``red << 16 | green << 8 | blue``.
    """

    width: int
    height: int
    mode: str
    colored: bool
    values: dict[int, int] = field(default_factory=dict)


def open_page(page: Page) -> Opened:
    """An upright image. Raises :class:`UnreadableError`."""
    return upright(_page(page), lambda: _page(page))


def read_image_header(page: Page) -> Header:
    """What is known of an image before it is made alike. Raises :class:`UnreadableError`."""
    opened = _page(page)
    more = page.number is None and int(getattr(opened, "n_frames", 1)) > 1
    paged = str(opened.format) if more else ""
    image = upright(opened, lambda: _page(page))
    pixels = image.image
    mode = pixels.mode
    gray = mode in GRAY or mode.startswith("I;")
    if image.values is None:
        return Header(pixels.width, pixels.height, mode, gray, paged)
    values = image.values
    height, width = values.shape[:2]
    whole = not np.issubdtype(values.dtype, np.floating) or bool((values == values.round()).all())
    low, high = float(values.min()), float(values.max())
    name = f"16-bit {'gray' if values.ndim == 2 else mode}"
    return Header(width, height, name, values.ndim == 2, paged, low, high, whole, wide=True)


def read_image(page: Page, channels: int, window: Window | None) -> np.ndarray[Any, Any]:
    """An image (channels, height, width), uint8, of its own size."""
    image = open_page(page)
    shape = Shape(channels, image.image.height, image.image.width, None, window)
    return fitted(image, shape)


def read_mask(page: Page, known: Coding) -> tuple[np.ndarray[Any, Any], bool, str]:
    """The values of a mask (height, width), int64; whether they are colors; its mode.

    The colors of a palette are taken where all of them are ``known`` as those of classes, else its
    numbers. Raises :class:`UnreadableError`.
    """
    image = _page(page)
    mode = image.mode
    if mode == "P":
        return *_of_palette(image, known), mode
    if mode in ("RGB", "RGBA", "LA"):
        return *_of_colors(upright(image, lambda: _page(page)), known), mode
    found = upright(image, lambda: _page(page))
    values = np.asarray(found.image) if found.values is None else found.values
    if values.ndim != 2:
        raise UnreadableError(f"is no mask: its pixels are of a kind that is not read ({mode})")
    if np.issubdtype(values.dtype, np.floating) and not (values == values.round()).all():
        raise UnreadableError("is no mask: its pixels are fractions, not numbers of classes")
    values = values.astype(np.int64)
    if (values < 0).any():
        raise UnreadableError(f"is no mask: it has negative values, such as {values.min()}")
    return values, False, "16-bit gray" if is_wide(image) else mode


def read_mask_header(page: Page, known: Coding) -> MaskHeader:
    """Size and values of a mask. Raises :class:`UnreadableError`."""
    values, colored, mode = read_mask(page, known)
    found, counts = np.unique(values, return_counts=True)
    if len(found) > MOST_VALUES:
        what = "colors" if colored else "values"
        raise UnreadableError(f"is no mask of classes: it has {len(found):,} {what}")
    pairs = zip(found.tolist(), counts.tolist(), strict=True)
    height, width = values.shape
    return MaskHeader(width, height, mode, colored, dict(pairs))


def decode_mask(page: Page, meaning: Meaning) -> np.ndarray[Any, Any]:
    """The classes (height, width), uint8, of a mask whose values are all known."""
    values, colored, _ = read_mask(page, meaning.colored)
    return (meaning.colored if colored else meaning.gray)(values)


def first_of(page: Page, value: int, known: Coding) -> tuple[int, int]:
    """Row and column (from 0) of the first pixel that has a value."""
    values, _, _ = read_mask(page, known)
    rows, columns = np.nonzero(values == value)
    return int(rows[0]), int(columns[0])


def _page(page: Page) -> Image:
    """The file, opened at the page. Raises :class:`UnreadableError`."""
    image = open_file(page.path)
    if page.number:
        try:
            image.seek(page.number)
        except Exception as error:  # as in open_file: whatever Pillow makes of damaged bytes
            raise UnreadableError(f"cannot be read: {error}") from error
    return image


def _of_palette(image: Image, known: Coding) -> tuple[np.ndarray[Any, Any], bool]:
    image.load()
    # Turned as numbers: Pillow's own turning may make other colors of a palette.
    numbers = turned(np.asarray(image), orientation(image)).astype(np.int64)
    if not known.codes:
        return numbers, False
    flat = image.getpalette("RGB") or []
    table = np.zeros((256, 3), np.int64)
    table[: len(flat) // 3] = np.asarray(flat, np.int64).reshape(-1, 3)
    codes = table[:, 0] << 16 | table[:, 1] << 8 | table[:, 2]
    if known.unknown(np.unique(codes[numbers]).tolist()):
        return numbers, False
    return codes[numbers], True


def _of_colors(found: Opened, known: Coding) -> tuple[np.ndarray[Any, Any], bool]:
    """Colors; or numbers, where all pixels are gray and no class has a color."""
    if found.values is not None and found.values.ndim == 3:
        raise UnreadableError("is no mask: its colors have 16 bits")
    image = found.image
    if image.mode in ("RGBA", "LA") and np.asarray(image.getchannel("A")).min() < 255:
        raise UnreadableError("is no mask: some of its pixels are transparent")
    pixels = np.asarray(image.convert("RGB")).astype(np.int64)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    is_gray = bool((red == green).all() and (green == blue).all())
    if is_gray and (not known.codes):
        return red, False
    return red << 16 | green << 8 | blue, True


def modes_of(headers: Counter[str]) -> str:
    """Modes of masks and how many have each, in words."""
    return ", ".join(f"{mode} {count:,}" for mode, count in headers.most_common())
