"""Series over time: what was, what was forecast, and what came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dltrain.reports.canvas import BLUE, GRAY, ORANGE, PALETTE, blank, light_frame, shortened

MOST_SERIES = 4
"""Series that are drawn of each window."""
LONGEST = 24
"""Letters of a series' name."""


def draw_forecasts(
    history: NDArray[Any],
    truth: NDArray[Any] | None,
    forecast: NDArray[Any],
    names: Sequence[str],
) -> Figure:
    """Windows side by side, series one below the other.

    ``history`` (windows, time, series), ``truth`` and ``forecast`` (windows, horizon, series), in
    the series' units; without a ``truth`` there is none yet. Steps are counted from the first that
    is forecast. Of many series the first ``MOST_SERIES`` are drawn.
    """
    windows, past, count = history.shape
    series, horizon = min(count, MOST_SERIES), forecast.shape[1]
    figure = blank(3.2 * windows + 0.6, 1.7 * series + 0.8)
    before, ahead = np.arange(-past, 0), np.arange(horizon)
    for row in range(series):
        for column in range(windows):
            axes = figure.add_subplot(series, windows, row * windows + column + 1)
            axes.plot(before, history[column, :, row], color=GRAY, linewidth=1)
            lines = ((truth, BLUE, "true"), (forecast, ORANGE, "forecast"))
            for values, color, label in lines:
                if values is None:
                    continue
                # From the last value on, so that no step lacks its line.
                drawn = np.append(history[column, -1, row], values[column, :, row])
                axes.plot(np.append(-1, ahead), drawn, color=color, linewidth=1.2, label=label)
            axes.axvline(-1, color=GRAY, linewidth=0.6, linestyle=":")
            if column == 0:
                name = names[row] if names else str(row)
                axes.set_ylabel(shortened(name, LONGEST), fontsize=9)
            if row == series - 1:
                axes.set_xlabel("step", fontsize=9)
            if row == 0 and column == 0:
                axes.legend(frameon=False, fontsize=8)
            axes.tick_params(labelsize=8)
            light_frame(axes)
    return figure


def draw_errors_by_step(errors: Mapping[str, NDArray[Any]]) -> Figure:
    """The mean squared error (horizon,) of each step ahead, a line for each method."""
    figure = blank(6.0, 4.0)
    axes = figure.add_subplot()
    for (name, values), color in zip(errors.items(), PALETTE, strict=False):
        steps = np.arange(1, len(values) + 1)
        axes.plot(steps, values, color=color, label=name, marker="." if len(steps) == 1 else None)
    axes.set(xlabel="steps ahead", ylabel="mean squared error, scaled", ylim=(0, None))
    axes.legend(frameon=False, fontsize=9)
    light_frame(axes)
    return figure
