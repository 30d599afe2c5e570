"""How the metrics went, epoch by epoch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from dltrain.reports.canvas import BLUE, GRAY, ORANGE, blank, light_frame

LEAST_EPOCHS = 2
"""A run of fewer is drawn by the step."""
MOST_MARKED = 60
"""Points of a curve that are marked one by one."""
NOTE = (
    "training: running means over the steps before each point, under augmentation and dropout; "
    "validation: the whole split, without either"
)
WIDTH = 62
"""Letters of the note below a panel."""


class Point(NamedTuple):
    """A value, after so many steps and epochs; no epoch where the data never ends."""

    step: int
    epoch: float | None
    value: float


Curves = Mapping[str, Mapping[str, Sequence[Point]]]
"""By metric, and by split."""


def draw_learning_curves(
    rows: Iterable[Mapping[str, str]],
    better: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> Figure:
    """One panel a metric, training and validation against the epoch, all on one scale of it.

    ``rows`` are those of ``metrics.csv``. A point of the training curve is a mean over
    ``log_every`` steps, or over the time between two evaluations where that is less. The step takes
    the epoch's place where there are hardly any epochs. ``better`` says which way metrics are
    better: fractions of which more is better have one scale. Metrics in ``without`` are left out.
    """
    curves = _curves(rows, without)
    columns = max(1, min(3, len(curves)))
    lines = max(1, math.ceil(len(curves) / columns))
    figure = blank(4.6 * columns, 3.3 * lines + 0.2)
    if not curves:
        return figure
    points = [point for splits in curves.values() for line in splits.values() for point in line]
    by_epoch = all(point.epoch is not None for point in points)
    by_epoch = by_epoch and max(point.epoch or 0 for point in points) >= LEAST_EPOCHS
    last = max(_place(point, by_epoch) for point in points)
    better = better or {}
    limits = _common_limits(curves, better)
    for index, (name, splits) in enumerate(curves.items()):
        axes = figure.add_subplot(lines, columns, index + 1)
        _draw_curves(axes, name, splits, by_epoch)
        if better.get(name) != "max":
            _by_magnitude(axes, splits)
        axes.set_xlim(0, last * 1.03)
        if name in limits:
            axes.set_ylim(limits[name])
    if any("train" in splits for splits in curves.values()):
        note = textwrap.fill(NOTE, WIDTH * columns)
        figure.supxlabel(note, fontsize=8, color=GRAY)
    return figure


def _curves(rows: Iterable[Mapping[str, str]], without: Collection[str]) -> Curves:
    """The points to draw; of metrics alone, which training knows as such or an evaluation does."""
    found: dict[str, dict[str, list[Point]]] = {}
    for row in rows:
        if row["split"] in ("steps", "train", "validation") and row["name"] not in without:
            epoch = float(row["epoch"]) if row["epoch"] else None
            point = Point(int(row["step"]), epoch, float(row["value"]))
            found.setdefault(row["name"], {}).setdefault(row["split"], []).append(point)
    curves: dict[str, dict[str, Sequence[Point]]] = {}
    for name, splits in found.items():
        # The learning rate and the norm of the gradient are logged, and are no metrics.
        if "train" in splits or "validation" in splits:
            means = _means(splits.get("steps", ()), splits.get("train", ()))
            both = {"train": means, "validation": splits.get("validation", ())}
            curves[name] = {split: line for split, line in both.items() if line}
    return curves


def _means(logged: Sequence[Point], periods: Sequence[Point]) -> list[Point]:
    """The logged means, and that of each period in which none was logged."""
    places = sorted({point.step for point in periods})
    lower = dict(zip(places, [0, *places], strict=False))
    steps = [point.step for point in logged]
    bare = [p for p in periods if not any(lower[p.step] < step <= p.step for step in steps)]
    return sorted([*logged, *bare])


def _common_limits(curves: Curves, better: Mapping[str, str]) -> dict[str, tuple[float, float]]:
    """One scale for all panels of fractions of which more is better."""
    values = {
        name: [point.value for line in splits.values() for point in line]
        for name, splits in curves.items()
        if better.get(name) == "max"
    }
    fractions = {n: v for n, v in values.items() if all(0 <= value <= 1 for value in v)}
    if len(fractions) < 2:
        return {}
    low = min(map(min, fractions.values()))
    high = max(map(max, fractions.values()))
    margin = 0.05 * (high - low) or 0.05
    return dict.fromkeys(fractions, (low - margin, high + margin))


def _place(point: Point, by_epoch: bool) -> float:
    return (point.epoch or 0) if by_epoch else point.step


def _draw_curves(
    axes: Axes, name: str, splits: Mapping[str, Sequence[Point]], by_epoch: bool
) -> None:
    for split, color, label in (("train", BLUE, "training"), ("validation", ORANGE, "validation")):
        line = splits.get(split, ())
        if line:
            axes.plot(
                [_place(point, by_epoch) for point in line], [point.value for point in line],
                color=color, label=label, linewidth=1.6,
                marker="o" if len(line) <= MOST_MARKED else None, markersize=3.5,
            )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))
    axes.set_title(name.replace("_", " "), fontsize=11)
    axes.set_xlabel("epoch" if by_epoch else "step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=9)
    light_frame(axes)


def _by_magnitude(axes: Axes, splits: Mapping[str, Sequence[Point]]) -> None:
    """A log axis, where values fall by orders of magnitude; it leaves out what is 0."""
    values = [point.value for line in splits.values() for point in line]
    positive = [value for value in values if value > 0]
    if positive and min(values) >= 0 and max(positive) > 100 * min(positive):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(numticks=8))
        axes.yaxis.set_minor_formatter(NullFormatter())
