"""Images one after the other."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

SECONDS = 8.0
SHORTEST, LONGEST, LAST = 60, 500, 2_000
"""Milliseconds that a frame is shown, at least and at most; and the last one."""


def gif(images: Sequence[Image.Image]) -> bytes:
    """The bytes of a GIF file that runs through RGB ``images`` for ever, resting at the last."""
    frames = [image.quantize(256, dither=Image.Dither.NONE) for image in images]
    each = int(np.clip(1_000 * SECONDS / len(frames), SHORTEST, LONGEST))
    file = io.BytesIO()
    frames[0].save(
        file, "gif", save_all=True, append_images=frames[1:], loop=0,
        duration=[*[each] * (len(frames) - 1), LAST],
    )  # fmt: skip
    return file.getvalue()
