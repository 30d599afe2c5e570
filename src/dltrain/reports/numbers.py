"""Numbers: predictions against what they should have been."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dltrain.reports.canvas import BLUE, GRAY, ORANGE, blank, light_frame, shortened

MOST_POINTS = 5_000
LONGEST = 40
"""Letters of a feature's name."""


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
    axes.plot(limits, limits, color=GRAY, linewidth=1, linestyle="--", label="perfect")
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


def draw_fit(
    inputs: NDArray[Any],
    targets: NDArray[Any],
    places: NDArray[Any],
    fitted: NDArray[Any],
    feature_name: str,
) -> Figure:
    """One feature's examples (n,) and targets (n,), and what the network lays through them.

    ``fitted`` (m,) is its answer at ``places`` (m,).
    """
    stride = math.ceil(len(inputs) / MOST_POINTS)
    inputs, targets = inputs[::stride], targets[::stride]
    figure = blank(6, 4.6)
    axes = figure.add_subplot()
    size = float(np.clip(3_000 / len(inputs), 6, 40))
    axes.scatter(
        inputs, targets, s=size, color=BLUE, alpha=0.9 if size > 20 else 0.45, linewidths=0,
        zorder=3, label="examples",
    )  # fmt: skip
    axes.plot(places, fitted, color=ORANGE, linewidth=2, label="fitted")
    axes.set(xlabel=shortened(feature_name, LONGEST), ylabel="target")
    axes.set_title("The fitted line and the examples", fontsize=11)
    axes.legend(frameon=False, fontsize=9)
    light_frame(axes)
    return figure


def draw_residuals(predictions: NDArray[Any], targets: NDArray[Any]) -> Figure:
    """Residuals, target minus prediction, against predictions, both (n, ...), and how often each.

    What is left should be a band of one width around 0, without a bend. Of more than
    ``MOST_POINTS`` examples, evenly spaced ones are drawn; the histogram has them all.
    """
    predicted = predictions.reshape(len(predictions), -1)
    residuals = targets.reshape(predicted.shape) - predicted
    stride = math.ceil(len(predicted) / MOST_POINTS)
    figure = blank(8, 4.6)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    outputs = predicted.shape[1]
    size = float(np.clip(3_000 / predicted[::stride].size, 6, 40))
    for output in range(outputs):
        left.scatter(
            predicted[::stride, output], residuals[::stride, output], s=size, linewidths=0,
            alpha=0.9 if size > 20 else 0.45, color=BLUE if outputs == 1 else None,
            label=f"output {output}",
        )  # fmt: skip
    if 1 < outputs <= 10:
        left.legend(frameon=False, fontsize=9)
    finite = residuals[np.isfinite(residuals)]
    bins = int(np.clip(math.sqrt(finite.size), 5, 60))
    right.hist(finite, bins=bins, orientation="horizontal", color=BLUE, alpha=0.75)
    for axes in (left, right):
        axes.axhline(0, color=GRAY, linewidth=1, linestyle="--")
        light_frame(axes)
    left.set(xlabel="predicted value", ylabel="residual: true minus predicted")
    right.set(xlabel="examples" if outputs == 1 else "numbers")
    right.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
    mean, std = float(residuals.mean()), float(residuals.std())
    figure.suptitle(f"Residuals: mean {mean:.4g}, standard deviation {std:.4g}", fontsize=11)
    return figure
