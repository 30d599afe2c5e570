"""Where a pixel of a file's image comes to lie in the network's input, and the way back."""

from __future__ import annotations

from typing import NamedTuple

from dltrain.data.images.decode import Shape


class Placement(NamedTuple):
    """A point x, y of the file's image lies at ``x * scale_x + x_offset``, and y alike."""

    scale_x: float
    scale_y: float
    x_offset: float
    y_offset: float


def placement(width: int, height: int, shape: Shape) -> Placement:
    """What :func:`~dltrain.data.images.decode.fitted` does to an image of ``width`` x ``height``.

    As Pillow's ``ImageOps`` has it: ``contain`` in the middle (pad), ``fit`` (crop), ``resize``.
    """
    if shape.fit == "pad":
        wide, high = shape.width, shape.height
        ratio, wanted = width / height, shape.width / shape.height
        if ratio > wanted:
            high = round(height / width * shape.width)
        elif ratio < wanted:
            wide = round(width / height * shape.height)
        left = round((shape.width - wide) * 0.5)
        top = round((shape.height - high) * 0.5)
        return Placement(wide / width, high / height, left, top)
    if shape.fit == "crop":
        wanted = shape.width / shape.height
        kept_wide = min(float(width), wanted * height)
        kept_high = min(float(height), width / wanted)
        scale_x, scale_y = shape.width / kept_wide, shape.height / kept_high
        left_out, top_out = (width - kept_wide) * 0.5, (height - kept_high) * 0.5
        return Placement(scale_x, scale_y, -left_out * scale_x, -top_out * scale_y)
    return Placement(shape.width / width, shape.height / height, 0.0, 0.0)
