"""Pixels of more than 8 bits: their values, and how they become 8."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

Window = tuple[float, float]
"""The values that become black and white; those beyond it are cut off."""

SIXTEEN: Window = (0, 65535)
DEPTHS = (8, 10, 12, 14, 16)
"""Bits that cameras and scanners write, in files of 16."""
ROWS = 64
"""Rows of an image that are worked on at once."""
NARROW = 8
"""Values that take up less than one part in so many of their depth are spread over all of it."""


def raw_mode(image: Image) -> str:
    """How the file holds a pixel, such as ``RGB;16B``, as long as it is not decoded."""
    for tile in getattr(image, "tile", None) or ():
        arguments = tile[3]
        first = arguments if isinstance(arguments, str) else (arguments or ("",))[0]
        return str(first)
    return ""


def is_wide(image: Image) -> bool:
    """Whether pixels have more than 8 bits, by an image that is opened but not decoded."""
    wide_colors = ";16" in raw_mode(image) or _netpbm_maximum(image) > 255
    return image.mode.startswith(("I", "F")) or wide_colors


def wide_values(image: Image, opened: Callable[[], Image] | None) -> np.ndarray[Any, Any] | None:
    """The pixels (height, width) or (height, width, channels); None where 8 bits hold them.

    Pillow makes 8 bits of 16 in images of several channels, by leaving out the lower byte. It is
    had by another look at the file, ``opened`` anew, as one in the other order of bytes;
    where that is null, 8 bits have to do.
    """
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    if _netpbm_maximum(image) > 255:
        return _netpbm_values(image)
    mode = raw_mode(image)
    if ";16" not in mode or opened is None:
        return None
    other = opened()
    if mode == "LA;16B":  # four bytes a pixel, as many as in RGBA
        _read_as(other, "RGBA")
        both = np.asarray(other).astype(np.uint16)
        return both[..., 0] * 256 + both[..., 1]
    first, _, order = mode.partition(";16")
    if order == "N":
        order = "L" if sys.byteorder == "little" else "B"
    _read_as(other, f"{first};16{'B' if order == 'L' else 'L'}")
    low, high = np.asarray(other), np.asarray(image)
    found = np.empty((*high.shape[:2], min(high.shape[2], 3)), np.uint16)
    for top in range(0, len(high), ROWS):
        rows = slice(top, top + ROWS)
        found[rows] = high[rows, :, :3].astype(np.uint16) * 256 + low[rows, :, :3]
    return found


def _netpbm_maximum(image: Image) -> int:
    """What is white in a binary PPM file of colors; 0 for any other, which Pillow reads whole."""
    tiles = getattr(image, "tile", None) or ()
    found = [tile[3][1] for tile in tiles if tile[0] == "ppm" and image.mode == "RGB"]
    return int(found[0]) if found else 0


def _netpbm_values(image: Image) -> np.ndarray[Any, Any]:
    """Its colors (height, width, 3) from 0 to 65535, as Pillow gives those of gray ones."""
    file, offset = image.fp, image.tile[0][2]  # type: ignore[attr-defined]
    file.seek(offset)
    content = file.read(6 * image.width * image.height)
    values = np.frombuffer(content, ">u2").reshape(image.height, image.width, 3)
    found = np.empty(values.shape, np.uint16)
    for first in range(0, len(values), ROWS):
        rows = slice(first, first + ROWS)
        found[rows] = values[rows].astype(np.int64) * 65535 // _netpbm_maximum(image)
    return found


def _read_as(image: Image, mode: str) -> None:
    tiles = []
    for codec, box, offset, arguments in image.tile:  # type: ignore[attr-defined]
        new = mode if isinstance(arguments, str) else (mode, *arguments[1:])
        tiles.append((codec, box, offset, new))
    kind = type(image.tile[0])  # type: ignore[attr-defined]
    image.tile = [kind(*tile) for tile in tiles]  # type: ignore[attr-defined]


def find_window(low: float, high: float, whole: bool) -> Window:
    """The window of values from ``low`` to ``high``, which are ``whole`` numbers or not.

    Whole numbers have the smallest depth that holds them, fractions of 1 the values 0 to 1. All
    else, negative numbers and those that take up little of their depth, goes from the least to
    the greatest.
    """
    low, high = float(low), float(high)  # numpy's uint16 would overflow
    depth = next((bits for bits in DEPTHS if high < 2**bits), None)
    if low >= 0 and whole and depth and (high - low) * NARROW >= 2**depth:
        return 0, 2**depth - 1
    if whole and low >= 0 and high < 256:
        return 0, 255
    if not whole and low >= 0 and high <= 1 and (high - low) * NARROW >= 1:
        return 0, 1
    return low, max(high, low + 1 if whole else np.nextafter(low, np.inf))


def to_bytes(values: np.ndarray[Any, Any], window: Window) -> np.ndarray[Any, Any]:
    """Values as uint8: the window's ends are 0 and 255."""
    found = np.empty(values.shape, np.uint8)
    for first in range(0, len(values), ROWS):  # the numbers on the way take eight times the room
        rows = slice(first, first + ROWS)
        found[rows] = _to_bytes(values[rows], window)
    return found


def _to_bytes(values: np.ndarray[Any, Any], window: Window) -> np.ndarray[Any, Any]:
    low, high = window
    if np.issubdtype(values.dtype, np.integer) and low == int(low) and high == int(high):
        shifted = values.astype(np.int64).clip(int(low), int(high)) - int(low)
        return (shifted * 255 // (int(high) - int(low))).astype(np.uint8)
    shifted = values.astype(np.float64).clip(low, high) - low
    return (shifted * (255 / (high - low))).round().astype(np.uint8)
