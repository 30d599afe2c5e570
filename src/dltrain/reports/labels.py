"""How well each of many labels is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dltrain.reports.canvas import BLUE, ORANGE, blank, light_frame, shortened

MOST = 40
"""Labels that are drawn: the most frequent ones."""


def draw_labels(
    names: Sequence[str], f1: NDArray[Any], precisions: Sequence[float], support: Sequence[int]
) -> Figure:
    """F1 and average precision of each label, the most frequent on top, with how many have it."""
    order = sorted(range(len(names)), key=lambda number: -support[number])[:MOST]
    figure = blank(7.0, 1.6 + 0.3 * len(order))
    axes = figure.add_subplot()
    light_frame(axes)
    places = np.arange(len(order))
    axes.barh(places - 0.2, [f1[n] for n in order], 0.4, color=BLUE, label="F1")
    axes.barh(
        places + 0.2, [precisions[n] for n in order], 0.4, color=ORANGE, label="average precision"
    )
    axes.set_yticks(places, [f"{shortened(names[n])} ({support[n]:,})" for n in order], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    more = f": the {MOST} most frequent of {len(names):,}" if len(names) > MOST else ""
    axes.set_title(f"Labels, and how many examples have them{more}", fontsize=11)
    axes.legend(fontsize=8)
    return figure
