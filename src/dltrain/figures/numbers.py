"""Numbers: predictions against what they should have been."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dltrain.figures.canvas import BLUE, GREY, blank, light_frame

MOST_POINTS = 5_000


def draw_predicted_against_true(predictions: NDArray[Any], targets: NDArray[Any]) -> Figure:
    """Each prediction against its target, both (n, ...); a perfect one lies on the diagonal.

    Of more than ``MOST_POINTS`` examples, evenly spaced ones are drawn.
    """
    stride = math.ceil(len(targets) / MOST_POINTS)
    predicted = predictions[::stride].reshape(len(predictions[::stride]), -1)
    true = targets[::stride].reshape(predicted.shape)
    figure = blank(5.5, 5.5)
    axes = figure.add_subplot()
    low = float(min(predicted.min(), true.min()))
    high = float(max(predicted.max(), true.max()))
    margin = 0.05 * (high - low) or 1.0
    limits = (low - margin, high + margin)
    axes.plot(limits, limits, color=GREY, linewidth=1, linestyle="--", label="perfect")
    outputs = predicted.shape[1]
    size = float(np.clip(3_000 / predicted.size, 6, 40))
    for output in range(outputs):
        axes.scatter(
            true[:, output], predicted[:, output], s=size, alpha=0.9 if size > 20 else 0.45,
            linewidths=0, color=BLUE if outputs == 1 else None,
            label="examples" if outputs == 1 else f"output {output}",
        )  # fmt: skip
    if outputs <= 10:
        axes.legend(frameon=False, fontsize=9)
    axes.set(xlim=limits, ylim=limits, xlabel="true value", ylabel="predicted value")
    axes.set_aspect("equal")
    light_frame(axes)
    return figure
