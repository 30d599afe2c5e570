"""How a search went: what its trials have reached, and which of the settings mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dltrain.reports.canvas import BLUE, GRAY, ORANGE, blank, light_frame, shortened

LONGEST = 40
"""Letters of a key."""


def draw_history(
    finished: Mapping[int, float], pruned: Mapping[int, float], metric: str, largest: bool
) -> Figure:
    """Each trial's value by its number, and the best of the finished ones so far.

    ``largest``: more of ``metric`` is better. A pruned trial has the value at which it was ended.
    """
    figure = blank(7.5, 4.4)
    axes = figure.add_subplot()
    numbers = sorted(finished)
    values = np.array([finished[number] for number in numbers])
    best = np.maximum.accumulate(values) if largest else np.minimum.accumulate(values)
    if pruned:
        axes.scatter(
            list(pruned), list(pruned.values()), s=22, facecolors="none", edgecolors=GRAY,
            label="pruned, at its end",
        )  # fmt: skip
    axes.scatter(numbers, values, s=26, color=BLUE, zorder=3, label="finished")
    if numbers:
        last = max([*finished, *pruned])
        axes.step(
            [*numbers, last], [*best, best[-1]], where="post", color=ORANGE, linewidth=1.8,
            label="best so far",
        )  # fmt: skip
    axes.set(xlabel="trial", ylabel=f"validation {metric.replace('_', ' ')}")
    axes.set_title("Trials", fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=9)
    light_frame(axes)
    return figure


def draw_importance(importance: Mapping[str, float], metric: str) -> Figure:
    """How much each setting has told good trials from others, the most on top; they sum to 1.

    As PED-ANOVA has it (Watanabe et al. 2023), which Optuna computes.
    """
    ordered: Sequence[tuple[str, float]] = sorted(importance.items(), key=lambda pair: pair[1])
    figure = blank(7.5, 1.2 + 0.42 * len(ordered))
    axes = figure.add_subplot()
    bars = axes.barh(
        [shortened(name, LONGEST) for name, _ in ordered], [value for _, value in ordered],
        color=BLUE, height=0.62,
    )  # fmt: skip
    axes.bar_label(bars, fmt="%.2f", padding=3, fontsize=9)
    axes.set(
        xlim=(0, 1.08), xlabel=f"importance for validation {metric.replace('_', ' ')} (PED-ANOVA)"
    )
    axes.set_title("What mattered", fontsize=11)
    light_frame(axes)
    axes.grid(visible=False, axis="y")
    return figure
