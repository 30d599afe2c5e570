"""Plain JPEG and PNG files decoded by torchvision: the same pixels as Pillow's, in less time.

Both are libjpeg-turbo and libpng; what Pillow adds is Python, which also keeps other threads of
this process waiting.
"""

from __future__ import annotations

import io
import struct
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
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
"""How the files begin."""
ENDS = {JPEG: b"\xff\xd9", PNG: b"IEND\xaeB`\x82"}
"""How they end when nothing is missing."""
SPECIAL = (b"Exif\0", b"eXIf", b"tRNS", b"acTL")
"""What is turned, transparent or moves has one of these in it."""
GRAY, COLORS = 0, 2
"""PNG's numbers for pixels that are gray, and that have three colors."""


class Plain:
    """Decodes plain files of ``shape``; of any other, Pillow has the say."""

    def __init__(self, shape: Shape) -> None:
        self._sides = shape.channels, shape.height, shape.width
        kind = GRAY if shape.channels == 1 else COLORS
        # Behind PNG's beginning: width, height, bits, kind of pixels, and no interlacing.
        header = struct.pack(">IIBBBBB", shape.width, shape.height, 8, kind, 0, 0, 0)
        self._kinds = ((JPEG, JPEG, ENDS[JPEG]), (PNG, PNG + header, ENDS[PNG]))

    def decode(
        self, content: Tensor, sizes: Sequence[int]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The bytes of each of the files, which lie one after another, and its pixels.

        ``content`` (n,) has the bytes of all, ``sizes`` how many each has. Pixels are (channels,
        height, width), uint8; None of what is not plain.
        """
        raw, end = content.numpy().tobytes(), 0
        # One of these words may also be pixels, by chance.
        odd = any(word in raw for word in SPECIAL)
        for file, size in zip(content.split(sizes), sizes, strict=True):
            start, end = end, end + size
            decode = self._decoder(raw, start, end)
            if decode is None or (odd and any(word in raw[start:end] for word in SPECIAL)):
                yield file, None
                continue
            try:
                pixels = decode(file, AS_IT_IS)
            except RuntimeError:
                yield file, None
                continue
            yield file, pixels if pixels.shape == self._sides else None

    def _decoder(self, raw: bytes, start: int, end: int) -> Decode | None:
        for kind, beginning, ending in self._kinds:
            if raw.startswith(beginning, start, end) and raw.endswith(ending, start, end):
                return _decoders().get(kind)
        return None


@cache
def _decoders() -> dict[bytes, Decode]:
    """torchvision's, as far as they give what Pillow gives.

    Of its library alone: the package takes 1.6 s to import, and 160 MB.
    """
    spec = find_spec("torchvision")
    places = [] if spec is None else spec.submodule_search_locations or []
    for library in (path for place in places for path in sorted(Path(place).glob("image*.so"))):
        try:
            torch.ops.load_library(library)
        except OSError:
            continue
    names = {JPEG: "jpeg", PNG: "png"}
    return {kind: decode for kind, name in names.items() if (decode := _decoder(name)) is not None}


def _decoder(name: str) -> Decode | None:
    from PIL import Image

    image, file = Image.linear_gradient("L").resize((9, 9)), io.BytesIO()
    image.save(file, name)
    wanted = np.asarray(Image.open(file))
    data = torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)
    try:
        decode: Any = getattr(torch.ops.image, f"decode_{name}").default
        same = np.array_equal(decode(data, AS_IT_IS).numpy()[0], wanted)
    except (RuntimeError, AttributeError):
        return None
    return decode if same else None
