"""Pictures of what a run did, drawn with matplotlib's objects: no pyplot, no global state."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

DPI = 110
BLUE, ORANGE, RED, GREY = "#1f5fa8", "#e07b00", "#c62828", "#5f6368"
MOST_POINTS = 5_000

_rendered: WeakKeyDictionary[Callable[[], Figure], bytes] = WeakKeyDictionary()


def render(draw: Callable[[], Figure]) -> bytes:
    """What ``draw`` draws, as the bytes of a PNG file.

    The bytes are kept as long as ``draw`` itself lives, so that several callbacks can ask for
    one evaluation's figure and pay for it once.
    """
    if draw not in _rendered:
        _rendered[draw] = png(draw())
    return _rendered[draw]


def png(figure: Figure) -> bytes:
    """The bytes of a PNG file; the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def draw_confusion_matrix(counts: NDArray[Any], class_names: Sequence[str]) -> Figure:
    """Examples by true class (row) and predicted class (column): counts (classes, classes).

    Colour is the share of the row, on a root scale: a class confused once in a hundred times
    can still be seen beside a diagonal of 99 %.
    """
    classes = len(class_names)
    support = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(support, 1)
    side = min(16.0, 2.6 + 0.32 * classes)
    figure = _figure(side + 1.3, side)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", norm=PowerNorm(0.4, vmin=0, vmax=1))
    _write_counts(axes, counts, shares)
    names = [_shortened(name) for name in class_names]
    size = min(9.0, 720 / classes)
    upright = classes > 12 or max(map(len, names)) > 3
    axes.set_xticks(range(classes), names, rotation=90 if upright else 0, fontsize=size)
    axes.set_yticks(range(classes), names, fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    correct, total = int(np.trace(counts)), int(counts.sum())
    axes.set_title(f"{correct:,} of {total:,} correct ({correct / max(total, 1):.2%})", fontsize=11)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02, ticks=[0, 0.01, 0.1, 0.3, 0.6, 1])
    bar.ax.set_yticklabels(["0%", "1%", "10%", "30%", "60%", "100%"], fontsize=8)
    bar.set_label("share of the true class", fontsize=9)
    return figure


def _write_counts(axes: Axes, counts: NDArray[Any], shares: NDArray[Any]) -> None:
    """Write each count but 0 into its cell, where the cells are large enough for it."""
    classes = len(counts)
    digits = len(str(int(counts.max(initial=0))))
    if classes > 25:
        return
    size = min(10.0, 40 / digits)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.2 else "black"
        axes.text(
            column, row, str(counts[row, column]), ha="center", va="center",
            color=colour, fontsize=size,
        )  # fmt: skip


def draw_predictions(
    pictures: ArrayLike,
    probabilities: ArrayLike,
    targets: Sequence[int],
    class_names: Sequence[str],
) -> Figure:
    """Pictures (n, height, width, channels) in 0..1, each with its class and its probability.

    ``probabilities`` is (n, classes). A wrong prediction has a red frame, and the true class.
    """
    images, chances = np.asarray(pictures), np.asarray(probabilities)
    count, height, width, channels = images.shape
    if channels not in (1, 3):
        images = images.mean(axis=3, keepdims=True)
    columns = min(count, max(4, math.ceil(math.sqrt(count))))
    rows = math.ceil(count / columns)
    ratio, gap, caption = height / width, 0.16, 0.42
    pitch = ratio + caption + gap
    inches = 1.2
    figure = Figure(figsize=(inches * columns * (1 + gap), inches * rows * pitch + 0.1))
    # One pair of axes for all pictures: creating a pair for each takes several times as long.
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.set_axis_off()
    for index, (image, chance, target) in enumerate(zip(images, chances, targets, strict=True)):
        row, column = divmod(index, columns)
        left, top = column * (1 + gap) + gap / 2, row * pitch + gap
        axes.imshow(
            image, cmap="gray", vmin=0, vmax=1, interpolation="nearest",
            extent=(left, left + 1, top + ratio, top),
        )  # fmt: skip
        predicted = int(chance.argmax())
        wrong = predicted != target
        if wrong:
            axes.add_patch(Rectangle((left, top), 1, ratio, fill=False, edgecolor=RED, linewidth=3))
        said = f"{_shortened(class_names[predicted], 13)} ({chance[predicted]:.0%})"
        truth = f"\ntrue: {_shortened(class_names[target], 13)}" if wrong else ""
        axes.text(
            left + 0.5, top + ratio + 0.04, said + truth, ha="center", va="top",
            color=RED if wrong else "black", fontsize=9, linespacing=1.15,
        )  # fmt: skip
    axes.set_xlim(0, columns * (1 + gap))
    axes.set_ylim(rows * pitch, 0)
    return figure


def draw_predicted_against_true(predictions: NDArray[Any], targets: NDArray[Any]) -> Figure:
    """Each prediction against its target, both (n, ...); a perfect one lies on the diagonal.

    Of more than ``MOST_POINTS`` examples, evenly spaced ones are drawn.
    """
    stride = math.ceil(len(targets) / MOST_POINTS)
    predicted = predictions[::stride].reshape(len(predictions[::stride]), -1)
    true = targets[::stride].reshape(predicted.shape)
    figure = _figure(5.5, 5.5)
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
    _light_frame(axes)
    return figure


def draw_learning_curves(rows: Iterable[Mapping[str, str]]) -> Figure:
    """One panel a metric, training and validation against the epoch.

    ``rows`` are those of ``metrics.csv``. The step takes the epoch's place where a run was
    judged more than once in one epoch.
    """
    curves: dict[str, dict[str, list[tuple[int, int, float]]]] = {}
    for row in rows:
        if row["split"] in ("train", "validation"):
            point = (int(row["epoch"]), int(row["step"]), float(row["value"]))
            curves.setdefault(row["name"], {}).setdefault(row["split"], []).append(point)
    columns = max(1, min(3, len(curves)))
    lines = max(1, math.ceil(len(curves) / columns))
    figure = _figure(4.6 * columns, 3.3 * lines)
    for index, (name, splits) in enumerate(curves.items()):
        _draw_curves(figure.add_subplot(lines, columns, index + 1), name, splits)
    return figure


def _draw_curves(axes: Axes, name: str, splits: dict[str, list[tuple[int, int, float]]]) -> None:
    by_epoch = all(
        len({epoch for epoch, _, _ in points}) == len(points) for points in splits.values()
    )
    values = [value for points in splits.values() for _, _, value in points]
    for split, colour in (("train", BLUE), ("validation", ORANGE)):
        if split not in splits:
            continue
        points = splits[split]
        axes.plot(
            [epoch if by_epoch else step for epoch, step, _ in points],
            [value for _, _, value in points],
            color=colour, label=split, linewidth=1.6,
            marker="o" if len(points) <= 30 else None, markersize=4,
        )  # fmt: skip
    if min(values) > 0 and max(values) > 100 * min(values):
        axes.set_yscale("log")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    axes.set_title(name.replace("_", " "), fontsize=11)
    axes.set_xlabel("epoch" if by_epoch else "step", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.legend(frameon=False, fontsize=9)
    _light_frame(axes)


def _figure(width: float, height: float) -> Figure:
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), layout=layout)


def _light_frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _shortened(name: str, most: int = 16) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
