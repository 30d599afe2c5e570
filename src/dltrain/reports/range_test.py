"""The loss against the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from dltrain.reports.canvas import BLUE, GRAY, ORANGE, RED, blank, light_frame


def draw_range_test(
    rates: Sequence[float],
    losses: Sequence[float],
    smoothed: Sequence[float],
    suggested: Mapping[str, float],
) -> Figure:
    """Each step's loss and a mean of its neighbors, all (n,); a line at each of ``suggested``."""
    figure = blank(7.5, 4.4)
    axes = figure.add_subplot()
    axes.plot(rates, losses, color=GRAY, linewidth=0.8, alpha=0.5, label="loss of a step")
    axes.plot(rates, smoothed, color=BLUE, linewidth=2, label="mean of neighbors")
    for (name, rate), color in zip(suggested.items(), (RED, ORANGE), strict=False):
        axes.axvline(rate, color=color, linewidth=1.4, linestyle="--", label=f"{name}: {rate:.2g}")
    axes.set_xscale("log")
    # Single steps, and what is beyond divergence, are not what one looks at.
    low, high = float(np.quantile(losses, 0.02)), float(np.max(smoothed))
    top = min(high, 2 * float(smoothed[0]) - float(np.min(smoothed)))
    margin = 0.08 * (top - low) or 1.0
    axes.set_ylim(low - margin, top + margin)
    axes.set(xlabel="learning rate", ylabel="training loss")
    axes.set_title("Learning rate range test", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    light_frame(axes)
    return figure
