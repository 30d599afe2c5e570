"""Probabilities: how well they tell classes apart, and whether they can be taken at their word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dltrain.reports.canvas import (
    BLUE,
    GRAY,
    ORANGE,
    PALETTE,
    blank,
    in_legend,
    light_frame,
    shortened,
)

MOST_CLASSES = 10
WEAKEST = 3
MOST_POINTS = 1_000


class ClassCurves(NamedTuple):
    """One class against the rest: curves over all thresholds, from the strictest on."""

    name: str
    false_positive_rate: NDArray[Any]
    recall: NDArray[Any]
    precision: NDArray[Any]
    auc: float
    average_precision: float


def draw_rankings(curves: Sequence[ClassCurves]) -> Figure:
    """ROC and precision-recall curves, one-vs-rest.

    Of more than ``MOST_CLASSES`` classes, the mean is drawn and the ``WEAKEST`` ones. Where all
    curves hug the perfect corner, that corner fills the figure.
    """
    figure = blank(10.5, 5.4)
    roc, recalls = figure.subplots(1, 2)
    _draw_roc(roc, curves)
    _draw_precision(recalls, curves)
    return figure


def _draw_roc(axes: Axes, curves: Sequence[ClassCurves]) -> None:
    lines = [_Line(c.name, c.false_positive_rate, c.recall, c.auc) for c in _thinned(curves)]
    axes.plot((0, 1), (0, 1), color=GRAY, linewidth=1, linestyle=":")
    enlarged = _draw_lines(axes, lines, "AUC", steps=False)
    axes.set_xlim(*((-0.002, 0.1) if enlarged else (-0.02, 1.02)))
    axes.set_title("ROC" + (": the upper left corner, enlarged" if enlarged else ""), fontsize=11)
    axes.set_xlabel("false-positive rate: fraction of the rest taken for the class", fontsize=9)
    axes.set_ylabel("recall: fraction of the class found", fontsize=9)


def _draw_precision(axes: Axes, curves: Sequence[ClassCurves]) -> None:
    lines = [_Line(c.name, c.recall, c.precision, c.average_precision) for c in _thinned(curves)]
    enlarged = _draw_lines(axes, lines, "average precision", steps=True)
    axes.set_xlim(*((0.9, 1.002) if enlarged else (-0.02, 1.02)))
    corner = ": the upper right corner, enlarged" if enlarged else ""
    axes.set_title("Precision against recall" + corner, fontsize=11)
    axes.set_xlabel("recall: fraction of the class found", fontsize=9)
    axes.set_ylabel("precision: fraction of those taken for the class that are it", fontsize=9)


class _Line(NamedTuple):
    name: str
    x: NDArray[Any]
    y: NDArray[Any]
    area: float


def _draw_lines(axes: Axes, lines: Sequence[_Line], measure: str, steps: bool) -> bool:
    """Draw one line a class, or the mean and the weakest; say whether a corner is enough."""
    axes.set_ylim(-0.02, 1.02)
    light_frame(axes)
    axes.tick_params(labelsize=8)
    if not lines:
        axes.text(0.5, 0.5, "no class has both examples and others", ha="center")
        return False
    drawn = list(lines)
    if len(lines) > MOST_CLASSES:
        drawn = sorted(lines, key=lambda line: line.area)[:WEAKEST]
        common = np.linspace(0, 1, 501)
        mean = np.mean([np.interp(common, line.x, line.y) for line in lines], axis=0)
        area = float(np.mean([line.area for line in lines]))
        axes.plot(
            common, mean, color="black", linewidth=2.4,
            label=f"mean of {len(lines)} classes ({area:.4f})",
        )  # fmt: skip
    for number, line in enumerate(drawn):
        axes.plot(
            line.x, line.y, color=PALETTE[number % len(PALETTE)], linewidth=1.5,
            linestyle="-" if number < len(PALETTE) else "--",
            drawstyle="steps-pre" if steps else "default",
            label=in_legend(f"{shortened(line.name)} ({line.area:.4f})"),
        )  # fmt: skip
    weakest = f", the {WEAKEST} weakest" if len(lines) > MOST_CLASSES else ""
    axes.legend(
        title=f"class ({measure}){weakest}", title_fontsize=8, fontsize=8, loc="lower left"
        if steps else "lower right",
    )  # fmt: skip
    enlarged = min(line.area for line in lines) > 0.98
    if enlarged:
        axes.set_ylim(0.9, 1.002)
    return enlarged


def _thinned(curves: Sequence[ClassCurves]) -> list[ClassCurves]:
    """Evenly spaced points of long curves, both ends among them."""
    thinned = []
    for curve in curves:
        count = len(curve.recall)
        kept = np.unique(np.linspace(0, count - 1, MOST_POINTS).round().astype(int))
        thinned.append(
            curve._replace(
                false_positive_rate=curve.false_positive_rate[kept],
                recall=curve.recall[kept],
                precision=curve.precision[kept],
            )
        )
    return thinned


def draw_calibration(bins: NDArray[Any], error: float) -> Figure:
    """Accuracy against confidence, bin by bin, and how many examples each bin has.

    ``bins`` is (bins, 5): from, to, examples, mean confidence, accuracy. ``error`` is the
    expected calibration error (Guo et al. 2017).
    """
    low, high, examples, confidence, accuracy = bins.reshape(-1, 5).T
    width, fraction = high - low, examples / max(examples.sum(), 1)
    figure = blank(5.6, 6.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.bar(
        low, accuracy, width, align="edge", color=BLUE, alpha=0.75, edgecolor="white",
        label="accuracy",
    )  # fmt: skip
    above.plot((0, 1), (0, 1), color=GRAY, linewidth=1.2, linestyle="--", label="perfect")
    above.scatter(confidence, accuracy, s=22, color=ORANGE, zorder=3, label="at the bin's mean")
    mean_confidence, mean_accuracy = float(fraction @ confidence), float(fraction @ accuracy)
    above.set_title(
        f"Expected calibration error {error:.2%}\n"
        f"mean confidence {mean_confidence:.2%}, accuracy {mean_accuracy:.2%}",
        fontsize=11,
    )
    above.set_ylabel("accuracy: fraction of the bin that is right", fontsize=9)
    above.set(xlim=(0, 1), ylim=(0, 1.02))
    above.legend(frameon=False, fontsize=9, loc="upper left")
    below.bar(low, fraction, width, align="edge", color=GRAY, edgecolor="white")
    below.set_xlabel("confidence: probability of the predicted class", fontsize=9)
    below.set_ylabel("fraction of examples", fontsize=9)
    below.set_ylim(0, 1)
    for axes in (above, below):
        axes.tick_params(labelsize=8)
        light_frame(axes)
    return figure
