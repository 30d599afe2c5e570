"""Where in a plane a network changes its mind, as a figure and as an animation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dltrain.reports.canvas import PALETTE, blank, in_legend, light_frame, shortened, show_literally
from dltrain.reports.moving import gif
from dltrain.reports.plane import Plane

MOST_POINTS = 2_000
MOST_NAMED = 12
LONGEST = 40
"""Letters of a feature's name."""
GIF_DPI = 90


def draw_decision_boundary(
    plane: Plane,
    probabilities: NDArray[Any],
    points: NDArray[Any],
    targets: NDArray[Any],
    class_names: Sequence[str],
    feature_names: Sequence[str],
) -> Figure:
    """What a network says at each place of a plane, and the examples that lie there.

    ``probabilities`` are (side * side, classes) in the order of ``plane.grid()``, ``points``
    (n, 2), ``targets`` (n,). Strong color is certainty; black lines part the classes.
    """
    figure = blank(6.4, 5.4)
    axes = figure.add_subplot()
    _draw_places(axes, plane, probabilities)
    _draw_points(axes, plane, points, targets, class_names, feature_names)
    axes.set_title("Predicted class: the paler, the less certain", fontsize=11)
    return figure


def animate_decision_boundary(
    plane: Plane,
    frames: Sequence[NDArray[Any]],
    titles: Sequence[str],
    points: NDArray[Any],
    targets: NDArray[Any],
    class_names: Sequence[str],
    feature_names: Sequence[str],
) -> bytes:
    """A GIF file that runs through ``frames`` for ever, each probabilities as drawn above."""
    figure = Figure(figsize=(5.6, 4.8), layout="constrained", dpi=GIF_DPI)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    _draw_points(axes, plane, points, targets, class_names, feature_names)
    show_literally(figure)
    images: list[Image.Image] = []
    for frame, title in zip(frames, titles, strict=True):
        drawn = _draw_places(axes, plane, frame)
        axes.set_title(title, fontsize=11)
        canvas.draw()
        # The layout of the first frame is that of all, so that nothing trembles.
        figure.set_layout_engine("none")
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"))
        for artist in drawn:
            artist.remove()
    return gif(images)


def _draw_places(axes: Axes, plane: Plane, probabilities: NDArray[Any]) -> list[Any]:
    """Color the plane; return what was drawn."""
    classes = probabilities.shape[1]
    chances = probabilities.reshape(plane.side, plane.side, classes).astype(float)
    likeliest, confidence = chances.argmax(2), chances.max(2)
    certainty = np.clip((confidence * classes - 1) / max(classes - 1, 1), 0, 1)
    colors = np.array([to_rgb(_color(number)) for number in range(classes)])
    strength = (0.12 + 0.43 * certainty)[:, :, None]
    # A pixel's middle is the place that it shows.
    x, y = (
        (high - low) / (plane.side - 1) / 2
        for low, high in ((plane.left, plane.right), (plane.bottom, plane.top))
    )
    image = axes.imshow(
        1 - strength * (1 - colors[likeliest]), origin="lower", interpolation="bilinear",
        extent=(plane.left - x, plane.right + x, plane.bottom - y, plane.top + y),
        aspect="auto", zorder=0,
    )  # fmt: skip
    return [image, *_draw_lines(axes, plane, chances)]


def _draw_lines(axes: Axes, plane: Plane, chances: NDArray[Any]) -> list[QuadContourSet]:
    """Around each class, where another becomes as likely."""
    x = np.linspace(plane.left, plane.right, plane.side)
    y = np.linspace(plane.bottom, plane.top, plane.side)
    lines = []
    for number in range(1 if chances.shape[2] == 2 else 0, chances.shape[2]):
        lead = chances[:, :, number] - np.delete(chances, number, axis=2).max(2, initial=0)
        # Where nothing changes there is no line, and matplotlib would warn that it found none.
        if lead.min() < 0 < lead.max():
            lines.append(axes.contour(x, y, lead, levels=[0], colors="black", linewidths=1.3))
    return lines


def _draw_points(
    axes: Axes,
    plane: Plane,
    points: NDArray[Any],
    targets: NDArray[Any],
    class_names: Sequence[str],
    feature_names: Sequence[str],
) -> None:
    stride = -(-len(points) // MOST_POINTS)
    points, targets = points[::stride], targets[::stride]
    size = float(np.clip(4_000 / max(len(points), 1), 8, 90))
    for number, name in enumerate(class_names):
        own = points[targets == number]
        axes.scatter(
            own[:, 0], own[:, 1], s=size, color=_color(number), marker="os^Dv"[number % 5],
            edgecolors="white", linewidths=0.5, zorder=3,
            label=in_legend(shortened(name)) if number < MOST_NAMED else None,
        )  # fmt: skip
    axes.set(xlim=(plane.left, plane.right), ylim=(plane.bottom, plane.top))
    axes.set_xlabel(shortened(feature_names[0], LONGEST))
    axes.set_ylabel(shortened(feature_names[1], LONGEST))
    light_frame(axes)
    axes.legend(
        title="true class", fontsize=9, title_fontsize=9, loc="upper left",
        bbox_to_anchor=(1.0, 1.0), frameon=False, markerscale=max(1.0, (40 / size) ** 0.5),
    )  # fmt: skip


def _color(number: int) -> str:
    return PALETTE[number % len(PALETTE)]
