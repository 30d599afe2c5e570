"""Weights: the first layer as images, every layer as a histogram."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from dltrain.reports.canvas import BLUE, GRAY, blank, light_frame

MOST_FILTERS = 100
MOST_LAYERS = 24
MOST_BINS = 81
NEAR = 0.01
"""What counts as near zero, as a fraction of a layer's largest."""


def draw_filters(filters: NDArray[Any]) -> Figure:
    """Filters (n, channels, height, width), a tile each; of many, the first ``MOST_FILTERS``.

    Three channels are shown as colors, each filter on its own scale with gray for 0. Any other
    number is averaged to one, and all filters share a scale with white for 0.
    """
    count, channels, height, width = filters.shape
    shown = filters[:MOST_FILTERS].astype(float)
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    # A gap of one weight where filters are small, and in proportion where they are images.
    gap = max(1, round(width / 12))
    colored = channels == 3
    if colored:
        largest = np.abs(shown).max(axis=(1, 2, 3), keepdims=True)
        tiles = np.moveaxis(0.5 + shown / np.where(largest > 0, 2 * largest, 1), 1, -1)
    else:
        tiles = shown.mean(axis=1)
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    mosaic = np.full((*size, *tiles.shape[3:]), 1.0 if colored else np.nan)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top, left = row * (height + gap), column * (width + gap)
        mosaic[top : top + height, left : left + width] = tile
    side = float(np.clip(0.8 * columns, 4.5, 9))
    figure = blank(side + 1, side * size[0] / size[1] + 0.7)
    axes = figure.add_subplot()
    axes.set_axis_off()
    limit = float(np.abs(tiles).max()) or 1.0
    colors = colormaps["RdBu_r"].with_extremes(bad=GRAY)
    image = axes.imshow(mosaic, cmap=colors, vmin=-limit, vmax=limit, interpolation="nearest")
    some = f"the first {len(shown)} of " if count > len(shown) else ""
    title = f"First layer: {some}{count} filters of {height}×{width}"
    if colored:
        title += "; gray is 0"
    else:
        mean = f", mean of {channels} channels" if channels > 1 else ""
        figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02).set_label("weight" + mean, fontsize=9)
    axes.set_title(title, fontsize=11)
    return figure


def draw_histograms(layers: Mapping[str, NDArray[Any]], what: str) -> Figure:
    """One panel a layer: how often each size of its values occurs, on a log scale.

    ``what`` names the values, such as weights. Many layers are shown by ``MOST_LAYERS`` evenly
    spaced ones.
    """
    names = list(layers)
    places = np.linspace(0, len(names) - 1, min(len(names), MOST_LAYERS)).round().astype(int)
    columns = max(1, min(4, len(places)))
    rows = max(1, math.ceil(len(places) / columns))
    figure = blank(3.4 * columns, 2.9 * rows + 0.5)
    for number, place in enumerate(places):
        values = layers[names[place]].ravel()
        axes = figure.add_subplot(rows, columns, number + 1)
        largest = float(np.abs(values).max(initial=0)) or 1.0
        axes.axvline(0, color=GRAY, linewidth=0.8)
        # Odd, so that the middle one lies around zero.
        bins = min(MOST_BINS, 2 * math.isqrt(len(values)) + 1)
        counts, edges = np.histogram(values, bins, (-largest, largest))
        axes.stairs(counts, edges, fill=True, color=BLUE)
        axes.set_yscale("log")
        axes.set_ylim(0.7, 2 * max(int(counts.max()), 1))
        near = float(np.mean(np.abs(values) < NEAR * largest))
        axes.set_title(f"{names[place]}\nstd {values.std():.3g}, near zero {near:.0%}", fontsize=9)
        axes.set_xlabel(what, fontsize=9)
        if number % columns == 0:
            axes.set_ylabel("count (log scale)", fontsize=9)
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
        axes.tick_params(labelsize=8)
        light_frame(axes)
    some = f"{len(places)} of {len(names)} layers; " if len(places) < len(names) else ""
    figure.suptitle(
        f"{what.capitalize()} of each layer ({some}near zero: below {NEAR:.0%} of the largest)",
        fontsize=11,
    )
    return figure
