"""How much each token that was written attends to each that was read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from dltrain.reports.canvas import shortened
from dltrain.reports.words import SHADES

MOST = 40
"""Tokens of a side that are drawn."""
ACROSS = 2
"""Maps beside each other."""
INCHES, MARGIN = 0.22, 1.6
"""Of a token, and for the names of the longest."""
TITLE = 5.5
"""Inches that the title needs."""

Map = tuple[Sequence[str], Sequence[str], NDArray[Any]]


def draw_attention_maps(maps: Sequence[Map]) -> Figure:
    """A map for each of the tokens read, those written and the weights (written, read).

    A row sums to 1; the darker, the more. Of more than ``MOST`` tokens the first are drawn.
    """
    cut = [(read[:MOST], said[:MOST], w[:MOST, :MOST]) for read, said, w in maps if len(said)]
    width = MARGIN + INCHES * max((len(read) for read, _, _ in cut), default=1)
    height = MARGIN + INCHES * max((len(said) for _, said, _ in cut), default=1)
    across = min(ACROSS, max(1, len(cut)))
    down = -(-max(1, len(cut)) // across)
    figure = Figure(figsize=(max(TITLE, across * width), down * height), layout="constrained")
    figure.suptitle("Attention of each token written (down) to those read (across)", fontsize=10)
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes, (read, said, weights) in zip(panels, cut, strict=False):
        axes.imshow(weights, cmap=SHADES, vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(read)), [shortened(name) for name in read], rotation=90)
        axes.set_yticks(range(len(said)), [shortened(name) for name in said])
        axes.tick_params(labelsize=7, length=0)
    for axes in panels[len(cut) :]:
        axes.set_axis_off()
    return figure
