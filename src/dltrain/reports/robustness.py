"""What is left of a metric the more inputs may be changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from dltrain.reports.canvas import PALETTE, blank, light_frame


def draw_robustness(
    epsilons: Sequence[float], metrics: Mapping[str, Sequence[float]], attack: str
) -> Figure:
    """Each of ``metrics``, a value for each of ``epsilons``, against epsilon."""
    figure = blank(6.4, 4.2)
    axes = figure.add_subplot()
    for (name, values), color in zip(metrics.items(), PALETTE, strict=False):
        axes.plot(epsilons, values, color=color, linewidth=2, marker="o", label=name)
    axes.set(xlabel="epsilon", ylim=(-0.02, 1.02))
    axes.set_title(f"Robustness under {attack}", fontsize=11)
    if len(metrics) > 1:
        axes.legend(frameon=False, fontsize=9)
    else:
        axes.set_ylabel(next(iter(metrics), ""))
    light_frame(axes)
    return figure
