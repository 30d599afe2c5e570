"""Classes: which are taken for which, and single images with their predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike, NDArray

from dltrain.reports.canvas import RED, blank, columns, shortened

MOST_NAMED = 150
"""Beyond that, names would be too small to read, and take long to draw."""


def draw_confusion_matrix(counts: NDArray[Any], class_names: Sequence[str]) -> Figure:
    """Examples by true class (row) and predicted class (column): counts (classes, classes).

    Color is the fraction of the row, on a root scale: a class confused once in a hundred times
    can still be seen beside a diagonal of 99 %. Of more than ``MOST_NAMED`` classes, evenly spaced
    ones are named.
    """
    classes = len(class_names)
    support = counts.sum(axis=1, keepdims=True)
    fractions = counts / np.maximum(support, 1)
    side = min(16.0, 2.6 + 0.32 * classes)
    figure = blank(side + 1.3, side)
    axes = figure.add_subplot()
    image = axes.imshow(fractions, cmap="Blues", norm=PowerNorm(0.4, vmin=0, vmax=1))
    _write_counts(axes, counts, fractions)
    named = range(0, classes, -(-classes // MOST_NAMED))
    names = [shortened(class_names[number]) for number in named]
    size = min(9.0, 720 / len(names))
    upright = classes > 12 or max(map(columns, names)) > 3
    axes.set_xticks(named, names, rotation=90 if upright else 0, fontsize=size)
    axes.set_yticks(named, names, fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    correct, total = int(np.trace(counts)), int(counts.sum())
    axes.set_title(f"{correct:,} of {total:,} correct ({correct / max(total, 1):.2%})", fontsize=11)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, ticks=[0, 0.01, 0.1, 0.3, 0.6, 1])
    bar.ax.set_yticklabels(["0%", "1%", "10%", "30%", "60%", "100%"], fontsize=8)
    bar.set_label("fraction of the true class", fontsize=9)
    return figure


def _write_counts(axes: Axes, counts: NDArray[Any], fractions: NDArray[Any]) -> None:
    """Write each count but 0 into its cell, where the cells are large enough for it."""
    classes = len(counts)
    digits = len(str(int(counts.max(initial=0))))
    if classes > 25:
        return
    size = min(10.0, 40 / digits)
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if fractions[row, column] > 0.2 else "black"
        axes.text(
            column, row, str(counts[row, column]), ha="center", va="center",
            color=color, fontsize=size,
        )  # fmt: skip


def draw_predictions(
    images: ArrayLike,
    probabilities: ArrayLike,
    targets: Sequence[int],
    class_names: Sequence[str],
    title: str = "",
) -> Figure:
    """Images (n, height, width, channels) in 0..1, each with its class and its probability.

    ``probabilities`` is (n, classes). A wrong prediction has a red frame, and the true class.
    ``n`` may be 0 where there is a title.
    """
    pixels, chances = np.asarray(images), np.asarray(probabilities)
    count, height, width, channels = pixels.shape
    if channels not in (1, 3):
        pixels = pixels.mean(axis=3, keepdims=True)
    across = max(4, math.ceil(math.sqrt(count))) if title or count > 4 else count
    rows = math.ceil(count / across)
    ratio, gap, caption = height / width, 0.16, 0.42
    head = 0.45 if title else 0.0
    pitch = ratio + caption + gap
    inches = 1.2
    figure = Figure(figsize=(inches * across * (1 + gap), inches * (rows * pitch + head) + 0.1))
    # One pair of axes for all images: creating a pair for each takes several times as long.
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.set_axis_off()
    for index, (image, chance, target) in enumerate(zip(pixels, chances, targets, strict=True)):
        row, column = divmod(index, across)
        left, top = column * (1 + gap) + gap / 2, row * pitch + gap
        axes.imshow(
            image, cmap="gray", vmin=0, vmax=1, interpolation="nearest",
            extent=(left, left + 1, top + ratio, top),
        )  # fmt: skip
        predicted = int(chance.argmax())
        wrong = predicted != target
        if wrong:
            axes.add_patch(Rectangle((left, top), 1, ratio, fill=False, edgecolor=RED, linewidth=3))
        said = f"{shortened(class_names[predicted], 13)} ({chance[predicted]:.0%})"
        truth = f"\ntrue: {shortened(class_names[target], 13)}" if wrong else ""
        axes.text(
            left + 0.5, top + ratio + 0.04, said + truth, ha="center", va="top",
            color=RED if wrong else "black", fontsize=9, linespacing=1.15,
        )  # fmt: skip
    axes.set_xlim(0, across * (1 + gap))
    axes.set_ylim(rows * pitch, -head)
    if title:
        axes.text(gap / 2, -head / 2, title, va="center", fontsize=11)
    return figure
