"""What images there are, by their headers: sizes, colors, pages, and the values of wide pixels."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dltrain.data.images.decode import (
    Fit,
    Shape,
    UnreadableError,
    open_file,
    open_upright,
    orientation,
)
from dltrain.data.images.wide import Window, find_window, is_wide
from dltrain.errors import UserError

GRAY = {"1", "L", "LA", "La", "I", "F"}
WORDS = {
    "1": "1-bit",
    "L": "gray",
    "LA": "gray with alpha",
    "P": "palette",
    "RGBA": "RGB with alpha",
    "I": "32-bit gray",
    "F": "float gray",
}
"""Pillow's modes in words; the others are what they are called."""
PAGED = {"GIF", "TIFF", "WEBP", "PNG", "AVIF"}
"""Formats whose files may hold several images."""
USUAL = (16, 32, 48, 64, 96, 128, 160, 192, 224)
"""Sides to propose."""


class Header(NamedTuple):
    """What is known of an image before it is made alike."""

    width: int
    height: int
    mode: str
    gray: bool
    paged: str = ""
    """The format, where the file has more images than the first."""
    low: float = 0.0
    high: float = 0.0
    whole: bool = True
    wide: bool = False
    """Whether pixels have more than 8 bits; then they go from ``low`` to ``high``."""


Headers = Mapping[int, Header]
"""Of the images of a split that can be read, by their rows."""


@dataclass(frozen=True)
class Asked:
    """What every image is to be made into, as far as a user says; null: as the images have it."""

    channels: int | None
    size: int | Sequence[int] | None
    fit: Fit
    window: Window | None = None
    otherwise: int | None = None
    """The side of a square, where no size is given and the images have several."""


def read_header(file: Path | bytes) -> Header:
    """Look at an image. Only wide pixels are decoded. Raises :class:`UnreadableError`."""
    image = open_file(file)
    paged = ""
    if image.format in PAGED and getattr(image, "n_frames", 1) > 1:
        paged = str(image.format)
    width, height, mode = image.width, image.height, image.mode
    gray = mode in GRAY or mode.startswith("I;")
    # Of a TIFF file, Pillow gives the upright size. Of a PNG, it decodes all pixels to find EXIF
    # behind them: only where there is some.
    told = image.format != "TIFF"
    if image.format == "PNG":
        told = "exif" in image.info or _has_exif(file)
    if told and orientation(image) >= 5:
        width, height = height, width
    if not is_wide(image):
        return Header(width, height, mode, gray, paged)
    values = open_upright(file).values
    if values is None or not values.size:
        raise UnreadableError("is no image that can be read")
    low, high = float(values.min()), float(values.max())
    whole = not np.issubdtype(values.dtype, np.floating) or bool((values == values.round()).all())
    name = "16-bit gray" if mode.startswith("I;") else mode if mode in "IF" else f"16-bit {mode}"
    gray = values.ndim == 2  # gray with alpha comes from Pillow in mode RGBA
    return Header(width, height, name, gray, paged, low, high, whole, wide=True)


def find_shape(
    asked: Asked, splits: Mapping[str, Headers], names: Mapping[str, Sequence[str]]
) -> Shape:
    """The shape of all splits' images: RGB where any of them has color.

    ``names`` say of each row of a split what to call it. Wide pixels are read by the window of the
    first split that has any, ``train`` before others. Raises :class:`UserError` where the images
    have several sizes and none is asked for.
    """
    headers = [header for split in splits.values() for header in split.values()]
    if not headers:
        raise UserError("data: there is no image that can be read.")
    channels = asked.channels or (1 if all(header.gray for header in headers) else 3)
    window = asked.window
    for split in splits.values():
        window = window or window_of(split.values())
    size = asked.size
    if size is None and asked.otherwise is not None and len(_sizes(headers)) > 1:
        size = asked.otherwise
    if size is None:
        height, width = _one_size(splits, names)
        return Shape(channels, height, width, None, window)
    height, width = (size,) * 2 if isinstance(size, int) else size
    return Shape(channels, height, width, asked.fit, window)


def _sizes(headers: Iterable[Header]) -> set[tuple[int, int]]:
    return {(header.height, header.width) for header in headers}


def _has_exif(file: Path | bytes) -> bool:
    """Whether a PNG file has EXIF data anywhere, by the heads of its chunks."""
    with io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8:
            if head[4:] == b"eXIf":
                return True
            stream.seek(int.from_bytes(head[:4], "big") + 4, io.SEEK_CUR)
    return False


def window_of(headers: Iterable[Header]) -> Window | None:
    """The window that all wide pixels are read by; null where there are none."""
    wide = [header for header in headers if header.wide]
    if not wide:
        return None
    whole = all(header.whole for header in wide)
    return find_window(min(h.low for h in wide), max(h.high for h in wide), whole)


def _one_size(splits: Mapping[str, Headers], names: Mapping[str, Sequence[str]]) -> tuple[int, int]:
    sizes: Counter[tuple[int, int]] = Counter()
    examples: dict[tuple[int, int], str] = {}
    for split, headers in splits.items():
        for row, header in headers.items():
            size = header.height, header.width
            sizes[size] += 1
            examples.setdefault(size, names[split][row])
    (usual, count), *others = sizes.most_common()
    if others:
        sides = sorted(min(size) for size in sizes.elements())
        middle = sides[len(sides) // 2]
        side = max((s for s in USUAL if s <= middle), default=middle)
        other = others[0][0]
        raise UserError(
            f"{examples[other]} is {other[1]}x{other[0]}, and {count:,} of {sizes.total():,} "
            f"images are {usual[1]}x{usual[0]}: {len(sizes):,} sizes in all. Give data.size=SIDE "
            f"or data.size=[HEIGHT,WIDTH], such as data.size={side}; data.fit=crop, pad or "
            "stretch says how the others get there."
        )
    return usual


def in_words(mode: str) -> str:
    """A mode as a person says it."""
    return WORDS.get(mode, mode)
