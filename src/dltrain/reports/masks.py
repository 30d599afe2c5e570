"""Masks painted over images, and which classes of pixels are taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from dltrain.reports.canvas import GRAY, blank, columns, in_legend, shortened

MOST_NAMED = 24
"""Classes that a legend names."""
LONGEST = 360
"""Pixels of a side that are drawn; larger images are thinned out."""


def draw_masks(
    rows: Mapping[str, NDArray[Any]],
    captions: Sequence[str],
    class_names: Sequence[str],
    colors: Sequence[Sequence[int]],
) -> Figure:
    """The same images in several versions, each a row with its name; below them the classes.

    Each version is (n, height, width, 3), uint8; ``captions`` (n,) stand above the images.
    """
    count, height, width = next(iter(rows.values())).shape[:3]
    step = max(1, -(-max(height, width) // LONGEST))
    ratio, gap, left, head = height / width, 0.04, 0.24, 0.16
    inches = 1.9
    across = count * (1 + gap) + left
    named = min(len(class_names), MOST_NAMED)
    lines = -(-named // max(1, int(across * inches / 1.5)))
    down = head + len(rows) * (ratio + gap)
    legend = 0.12 + 0.12 * lines
    figure = Figure(figsize=(inches * across, inches * (down + legend)))
    # One pair of axes for all images: creating a pair for each takes several times as long.
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.set_axis_off()
    for row, (name, images) in enumerate(rows.items()):
        top = head + row * (ratio + gap)
        axes.text(left - gap, top + ratio / 2, name, ha="right", va="center", rotation=90,
                  color=GRAY, fontsize=9)  # fmt: skip
        for place, image in enumerate(images):
            start = left + place * (1 + gap)
            axes.imshow(
                image[::step, ::step], interpolation="nearest",
                extent=(start, start + 1, top + ratio, top),
            )  # fmt: skip
    for place, caption in enumerate(captions):
        axes.text(left + place * (1 + gap) + 0.5, head / 2, caption, ha="center", va="center",
                  fontsize=9)  # fmt: skip
    axes.set_xlim(0, across)
    axes.set_ylim(down + legend, 0)
    patches = [
        Patch(color=[part / 255 for part in color], label=in_legend(shortened(name)))
        for name, color in zip(class_names[:named], colors, strict=False)
    ]
    figure.legend(
        handles=patches, loc="lower center", ncols=max(1, -(-named // lines)), frameon=False,
        fontsize=8, handlelength=1.2, columnspacing=1.2,
    )  # fmt: skip
    return figure


def draw_pixel_confusion(counts: NDArray[Any], class_names: Sequence[str]) -> Figure:
    """Pixels by true class (row) and predicted class (column), as fractions of the row."""
    classes = len(class_names)
    fractions = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(16.0, 2.8 + 0.42 * classes)
    figure = blank(side + 1.3, side)
    axes = figure.add_subplot()
    image = axes.imshow(fractions, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    for row, column in zip(*np.nonzero(fractions >= 0.005), strict=True) if classes <= 25 else ():
        value = fractions[row, column]
        axes.text(
            column, row, f"{value:.0%}".removesuffix("%"), ha="center", va="center",
            color="white" if value > 0.3 else "black", fontsize=8,
        )  # fmt: skip
    named = range(0, classes, -(-classes // 150))
    names = [shortened(class_names[number]) for number in named]
    upright = classes > 12 or max(map(columns, names)) > 3
    axes.set_xticks(named, names, rotation=90 if upright else 0, fontsize=9)
    axes.set_yticks(named, names, fontsize=9)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    right, total = int(np.trace(counts)), int(counts.sum())
    axes.set_title(f"{right / max(total, 1):.2%} of {total:,} pixels correct", fontsize=11)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("fraction of the true class", fontsize=9)
    return figure
