"""Time steps of a sequence, and what reaches back to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dltrain.reports.canvas import blank, light_frame

MOST_CURVES = 8
SMALLEST = 1e-12
"""Where the log axis ends; what is smaller leaves the figure."""


def draw_gradient_by_time(steps: Sequence[int], norms: NDArray[Any]) -> Figure:
    """``norms`` (curves, time) on a log axis: a curve for each of ``steps`` of training.

    Of many, ``MOST_CURVES`` evenly spaced ones are drawn, the first and the last among them.
    """
    places = np.linspace(0, len(steps) - 1, min(len(steps), MOST_CURVES)).round().astype(int)
    figure = blank(7.8, 4.8)
    axes = figure.add_subplot()
    times = np.arange(1, norms.shape[1] + 1)
    for number, place in enumerate(places):
        end = number in (0, len(places) - 1)
        axes.plot(
            times, np.where(norms[place] > 0, norms[place], np.nan),
            color=colormaps["viridis_r"](0.15 + 0.85 * number / max(len(places) - 1, 1)),
            linewidth=2.2 if end else 1.2, linestyle="-" if number else "--",
            marker="o" if len(times) == 1 else None,
            label=f"{steps[place]:,} steps",
        )  # fmt: skip
    drawn = norms[places]
    lowest = drawn[drawn > 0].min(initial=np.inf)
    axes.set_yscale("log")
    if lowest < SMALLEST:
        axes.set_ylim(bottom=SMALLEST)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=9, steps=[1, 2, 5, 10], integer=True))
    axes.set_xlabel("time step of the input", fontsize=9)
    axes.set_ylabel("‖∂ output / ∂ input‖, mean over sequences", fontsize=9)
    ends = f"in the end: first step {norms[-1][0]:.1e}, last step {norms[-1][-1]:.1e}"
    axes.set_title(
        f"How much the answer depends on each time step\n{ends}",
        fontsize=11,
    )
    axes.tick_params(labelsize=8)
    axes.legend(
        title="trained for", title_fontsize=8, fontsize=8, frameon=False,
        loc="center left", bbox_to_anchor=(1, 0.5),
    )  # fmt: skip
    light_frame(axes)
    return figure
