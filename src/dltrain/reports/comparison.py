"""The curves of several runs, one over the other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dltrain.reports.canvas import PALETTE, blank, in_legend, light_frame

STYLES = {"validation": "-", "train": ":"}
MOST_MARKED = 30
"""Points of a curve beyond which they have no marks."""

Curves = Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
"""By metric and split, points of epoch and value."""


def draw_comparison(runs: Mapping[str, Curves], metrics: Sequence[str]) -> Figure:
    """A panel for each of ``metrics``: every run in its color, validation solid, training dotted.

    ``runs`` are by the name that the legend has.
    """
    columns = max(1, min(3, len(metrics)))
    lines = max(1, math.ceil(len(metrics) / columns))
    figure = blank(4.6 * columns, 3.3 * lines + 0.3 + 0.25 * len(runs))
    for index, name in enumerate(metrics):
        axes = figure.add_subplot(lines, columns, index + 1)
        _draw_metric(axes, name, [curves.get(name, {}) for curves in runs.values()])
    colors = [PALETTE[number % len(PALETTE)] for number in range(len(runs))]
    handles = [figure.axes[0].plot([], [], color=color)[0] for color in colors]
    figure.legend(
        handles, [in_legend(name) for name in runs], loc="outside lower left",
        frameon=False, fontsize=9, title="solid: validation, dotted: training", title_fontsize=9,
        alignment="left",
    )  # fmt: skip
    return figure


def _draw_metric(
    axes: Axes, name: str, runs: Sequence[Mapping[str, Sequence[tuple[float, float]]]]
) -> None:
    values = []
    for number, splits in enumerate(runs):
        for split, style in STYLES.items():
            points = splits.get(split, ())
            values += [value for _, value in points]
            axes.plot(
                [place for place, _ in points], [value for _, value in points],
                style, color=PALETTE[number % len(PALETTE)], linewidth=1.6, markersize=3,
                marker="o" if len(points) <= MOST_MARKED and split == "validation" else None,
            )  # fmt: skip
    if values and min(values) > 0 and max(values) > 100 * min(values):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_title(name.replace("_", " "), fontsize=11)
    axes.set_xlabel("epoch", fontsize=9)
    axes.tick_params(labelsize=8)
    light_frame(axes)
