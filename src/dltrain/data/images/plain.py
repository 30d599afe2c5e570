"""Plain JPEG files decoded by torchvision: the same pixels as Pillow's, in less time.

Both are libjpeg-turbo; what Pillow adds is Python, which also keeps other threads of this process
waiting. PNG files are left to Pillow: torchvision's decoder ends the process at a damaged one.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dltrain.data.images.decode import Shape

Decode = Callable[[Tensor, int], Tensor]
AS_IT_IS = 0
"""torchvision's number for the channels that a file has."""
BEGINNING, END = b"\xff\xd8\xff", b"\xff\xd9"
"""Of a file of which nothing is missing."""
SPECIAL = b"Exif\0"
"""What is turned has this in it."""
FRAMES = frozenset(b"\xc0\xc1\xc2")
"""Markers of the segment that tells the size of an image of 8 bits: T.81, table B.1."""
SEGMENTS = frozenset((0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
"""Markers of what may stand before it: tables, applications' own, comments."""


class Plain:
    """Decodes plain files of ``shape``; of any other, Pillow has the say."""

    def __init__(self, shape: Shape) -> None:
        self._sides = shape.channels, shape.height, shape.width

    def decode(
        self, content: Tensor, sizes: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The bytes of each of the files, which lie one after another, and its pixels.

        ``content`` (n,) has the bytes of all, ``sizes`` how many each has. Pixels are (channels,
        height, width), uint8; None of what is not plain.
        """
        raw, end = content.numpy().tobytes(), 0
        decode = _decoder()
        # The word may also be pixels, by chance.
        odd = SPECIAL in raw
        for file, size in zip(content.split(sizes), sizes, strict=True):
            start, end = end, end + size
            whole = raw.startswith(BEGINNING, start, end) and raw.endswith(END, start, end)
            # A small file may ask for gigabytes, which libjpeg would get before we see its size.
            fits = whole and _sides(raw, start, end) == self._sides
            if decode is None or not fits or (odd and SPECIAL in raw[start:end]):
                yield file, None
                continue
            try:
                pixels = decode(file, AS_IT_IS)
            except RuntimeError:
                yield file, None
                continue
            yield file, pixels if pixels.shape == self._sides else None


def _sides(raw: bytes, start: int, end: int) -> tuple[int, int, int] | None:
    """Channels, height and width that a JPEG file says it has; None: nothing plain says it."""
    at = start + 2
    while at + 10 <= end and raw[at] == 0xFF:
        if raw[at + 1] in FRAMES:
            height, width = raw[at + 5] << 8 | raw[at + 6], raw[at + 7] << 8 | raw[at + 8]
            return raw[at + 9], height, width
        if raw[at + 1] not in SEGMENTS:
            break
        at += 2 + (raw[at + 2] << 8 | raw[at + 3])
    return None


@cache
def _decoder() -> Decode | None:
    """torchvision's, if it gives what Pillow gives.

    Of its library alone: the package takes 1.6 s to import, and 160 MB.
    """
    from PIL import Image

    spec = find_spec("torchvision")
    places = [] if spec is None else spec.submodule_search_locations or []
    for library in (path for place in places for path in sorted(Path(place).glob("image*.so"))):
        try:
            torch.ops.load_library(library)
        except OSError:
            continue
    image, file = Image.linear_gradient("L").resize((9, 9)), io.BytesIO()
    image.save(file, "jpeg")
    wanted = np.asarray(Image.open(file))
    data = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    try:
        decode: Any = torch.ops.image.decode_jpeg.default
        same = np.array_equal(decode(data, AS_IT_IS).numpy()[0], wanted)
    except (RuntimeError, AttributeError):
        return None
    return decode if same else None
