"""How the metrics went, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dltrain.reports.canvas import BLUE, ORANGE, blank, light_frame


def draw_learning_curves(rows: Iterable[Mapping[str, str]]) -> Figure:
    """One panel a metric, training and validation against the epoch.

    ``rows`` are those of ``metrics.csv``. The step takes the epoch's place where a run was
    evaluated more than once in one epoch.
    """
    curves: dict[str, dict[str, list[tuple[float, int, float]]]] = {}
    for row in rows:
        if row["split"] in ("train", "validation"):
            point = (float(row["epoch"]), int(row["step"]), float(row["value"]))
            curves.setdefault(row["name"], {}).setdefault(row["split"], []).append(point)
    columns = max(1, min(3, len(curves)))
    lines = max(1, math.ceil(len(curves) / columns))
    figure = blank(4.6 * columns, 3.3 * lines)
    for index, (name, splits) in enumerate(curves.items()):
        _draw_curves(figure.add_subplot(lines, columns, index + 1), name, splits)
    return figure


def _draw_curves(axes: Axes, name: str, splits: dict[str, list[tuple[float, int, float]]]) -> None:
    by_epoch = all(
        len({epoch for epoch, _, _ in points}) == len(points) for points in splits.values()
    )
    values = [value for points in splits.values() for _, _, value in points]
    for split, color in (("train", BLUE), ("validation", ORANGE)):
        if split not in splits:
            continue
        points = splits[split]
        axes.plot(
            [epoch if by_epoch else step for epoch, step, _ in points],
            [value for _, _, value in points],
            color=color, label=split, linewidth=1.6,
            marker="o" if len(points) <= 30 else None, markersize=4,
        )  # fmt: skip
    if min(values) > 0 and max(values) > 100 * min(values):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_title(name.replace("_", " "), fontsize=11)
    axes.set_xlabel("epoch" if by_epoch else "step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=9)
    light_frame(axes)
