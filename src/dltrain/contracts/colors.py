"""Colors of classes: the data's own, or some that can be told apart."""

from __future__ import annotations

import colorsys

from dltrain.contracts.data import Field

FIRST = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (204, 121, 167), (86, 180, 233))
"""Told apart by the color-blind too (Okabe and Ito 2008)."""
GOLDEN = 0.6180339887498949


def colors_of(field: Field) -> list[tuple[int, ...]]:
    """Red, green and blue, 0..255, of each class of ``field``."""
    if field.colors:
        return list(field.colors)
    found: list[tuple[int, ...]] = list(FIRST)
    for number in range(len(found), field.size or 0):
        # Hues by the golden ratio: each is far from those before it.
        light = (0.9, 0.65)[number % 2]
        rgb = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.7, light)
        found.append(tuple(round(255 * part) for part in rgb))
    return found[: field.size]
