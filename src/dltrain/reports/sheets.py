"""Images beside each other, pixel by pixel: sheets of samples, reconstructions, ways between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dltrain.reports.canvas import DPI, GRAY

SIDE = 56
"""About as many pixels of the screen does a small image get each way."""
GAP, BREAK = 4, 14
WHITE = 255
HEAD, EDGE = 34, 12
"""Pixels for a line of text above images, and around them."""
LETTER = 7.5
"""About as many pixels does a letter take, at most."""
MOST_IN_A_ROW = 10


def mosaic(images: NDArray[Any], columns: int, gap: int = GAP) -> NDArray[np.uint8]:
    """Images (n, height, width, channels) of 0..1, row by row, as one (H, W, 3) of 0..255.

    Each pixel of a small image becomes a square of several, and large images are shrunk.
    Three channels are colors; any other number is averaged to gray.
    """
    tiles = [_enlarged(image) for image in _colored(images)]
    height, width, _ = tiles[0].shape
    rows = math.ceil(len(tiles) / columns)
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    sheet = np.full(size, WHITE, np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = row * (height + gap), column * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def draw_rows(rows: Mapping[str, NDArray[Any]], title: str = "") -> Figure:
    """The same images in several versions, one below the other, with their names beside them.

    Each version is (n, height, width, channels) of 0..1. More than ``MOST_IN_A_ROW`` go on below.
    """
    count = len(next(iter(rows.values())))
    columns = min(count, MOST_IN_A_ROW)
    blocks = [
        mosaic(np.concatenate([version[low : low + columns] for version in rows.values()]), columns)
        for low in range(0, count - count % columns, columns)
    ]
    height, width, _ = blocks[0].shape
    space = np.full((BREAK, width, 3), WHITE, np.uint8)
    sheet = np.concatenate([part for block in blocks for part in (space, block)][1:])
    names = {
        number * (height + BREAK) + (place + 0.5) * (height + GAP) / len(rows): name
        for number in range(len(blocks))
        for place, name in enumerate(rows)
    }
    return _framed(sheet, title, names)


def draw_ways(
    starts: NDArray[Any], between: NDArray[Any], ends: NDArray[Any], title: str = ""
) -> Figure:
    """From one image to another, a way a row: (rows, height, width, channels) of 0..1 each.

    ``between`` are (rows, steps, height, width, channels). The images at both ends stand apart.
    """
    steps = between.shape[1]
    middle = mosaic(between.reshape(-1, *starts.shape[1:]), steps)
    space = np.full((len(middle), BREAK, 3), WHITE, np.uint8)
    return _framed(np.hstack([mosaic(starts, 1), space, middle, space, mosaic(ends, 1)]), title)


def _framed(
    sheet: NDArray[np.uint8], title: str, names: Mapping[float, str] | None = None
) -> Figure:
    """The sheet, each of its pixels one of the figure's; ``names`` stand left of it, by height."""
    names = names or {}
    height, width, _ = sheet.shape
    left = EDGE + round(LETTER * max(map(len, names.values()), default=0))
    top = HEAD if title else EDGE
    wide = left + max(width, round(LETTER * len(title))) + EDGE
    high = top + height + EDGE
    figure = Figure(figsize=(wide / DPI, high / DPI), dpi=DPI)
    axes = figure.add_axes((left / wide, EDGE / high, width / wide, height / high), frameon=False)
    axes.set_axis_off()
    axes.imshow(sheet, interpolation="nearest", aspect="auto")
    for place, name in names.items():
        axes.text(-GAP * 2, place, name, ha="right", va="center", fontsize=9, color=GRAY)
    if title:
        figure.text(left / wide, 1 - HEAD / 2 / high, title, va="center", fontsize=11)
    return figure


def _colored(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Images of three channels of 0..255."""
    if images.shape[3] != 3:
        images = images.mean(axis=3, keepdims=True).repeat(3, axis=3)
    return (images.clip(0, 1) * WHITE).round().astype(np.uint8)


def _enlarged(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width, _ = image.shape
    longer = max(height, width)
    if longer > 2 * SIDE:
        size = (max(1, width * 2 * SIDE // longer), max(1, height * 2 * SIDE // longer))
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    factor = max(1, round(SIDE / longer))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
