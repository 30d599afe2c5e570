"""The space of codes: two dimensions as a plane, any number by how much each is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from dltrain.reports.canvas import BLUE, GRAY, blank, light_frame, shortened
from dltrain.reports.plane import Plane
from dltrain.reports.sheets import mosaic

MOST_POINTS = 5_000
MOST_NAMED = 20
PALE = "#b9cfe6"


def draw_latent_plane(
    plane: Plane,
    decoded: NDArray[Any],
    codes: NDArray[Any],
    targets: NDArray[Any] | None,
    class_names: Sequence[str],
    stds: Sequence[float] = (),
) -> Figure:
    """Where images lie in a plane of codes, and beside it what is decoded from each place.

    ``decoded`` are (side * side, height, width, channels) of 0..1 in the order of
    ``plane.grid()``, ``codes`` (n, 2); ``targets`` (n,) choose the colors. A circle around 0 is
    drawn for each of ``stds``, the prior's standard deviations.
    """
    figure = blank(12.4, 6.2)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    if targets is None:
        stride = -(-len(codes) // MOST_POINTS)
        x, y = codes[::stride].T
        left.scatter(x, y, s=6, color=BLUE, alpha=0.6, linewidths=0)
    else:
        _draw_classes(left, codes, targets, class_names)
    for std in stds:
        left.add_patch(Circle((0, 0), std, fill=False, color=GRAY, linestyle=(0, (4, 4))))
    light_frame(left)
    left.set_title("Codes of the split's images", fontsize=11)
    rows = decoded.reshape(plane.side, plane.side, *decoded.shape[1:])
    # The grid begins at the bottom, an image at the top.
    sheet = mosaic(rows[::-1].reshape(decoded.shape), plane.side, gap=0)
    right.imshow(sheet, extent=_edges(plane), aspect="auto")
    right.spines[:].set_visible(False)
    right.tick_params(left=False)
    right.set_title("Images decoded over the latent plane", fontsize=11)
    right.set(xlim=_edges(plane)[:2], ylim=_edges(plane)[2:])
    for axes in (left, right):
        axes.set_box_aspect(1)
        axes.set_xlabel("first latent dimension")
    left.set_ylabel("second latent dimension")
    return figure


def draw_latent_use(divergences: NDArray[Any], active: int) -> Figure:
    """What each latent dimension costs, the dearest first: ``divergences`` (latent_size,), nats.

    A dimension that costs nothing says nothing of an image; the means of ``active`` of them vary.
    Where all together cost less than one bit, the posterior has collapsed, and none is in use.
    """
    total = float(divergences.sum())
    collapsed = total < math.log(2)
    used = 0 if collapsed else active
    order = np.sort(divergences)[::-1]
    figure = blank(7.2, 3.8)
    axes = figure.add_subplot()
    colors = [BLUE if number < used else PALE for number in range(len(order))]
    axes.bar(np.arange(1, len(order) + 1), order, width=0.8, color=colors)
    axes.set_xlabel("latent dimensions, sorted")
    axes.set_ylabel("divergence from the prior (nats)")
    axes.set_xlim(0.2, len(order) + 0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    bits = f"{total:.2g} nats ({total / math.log(2):.2g} bits) an image"
    said = f"{active} of {len(order)} dimensions in use, {bits}"
    if collapsed:
        said = f"The posterior has collapsed: the codes carry {bits}"
    axes.set_title(said, fontsize=11)
    light_frame(axes)
    axes.set_axisbelow(True)
    return figure


def _draw_classes(
    axes: Axes, codes: NDArray[Any], targets: NDArray[Any], class_names: Sequence[str]
) -> None:
    """Each class in a color of its own, with its name amid its codes."""
    colors = _palette(len(class_names))
    stride = -(-len(codes) // MOST_POINTS)
    x, y = codes[::stride].T
    # In the split's order, so that no class covers all others.
    own_colors = [colors[number] for number in targets[::stride]]
    axes.scatter(x, y, s=7, c=own_colors, alpha=0.75, linewidths=0)
    if len(class_names) > MOST_NAMED:
        return
    for number, name in enumerate(class_names):
        own = codes[targets == number]
        if len(own):
            x, y = np.median(own, axis=0)
            axes.text(
                x, y, shortened(name), color=colors[number], ha="center",
                va="center", fontsize=12, weight="bold",
                path_effects=[withStroke(linewidth=3, foreground="white")],
            )  # fmt: skip


def _palette(classes: int) -> list[str]:
    """As many colors as there are classes, told apart as well as so many can be."""
    if classes <= 10:
        return [to_hex(color) for color in colormaps["tab10"](range(classes))]
    return [to_hex(color) for color in colormaps["turbo"](np.linspace(0.05, 0.95, classes))]


def _edges(plane: Plane) -> tuple[float, float, float, float]:
    """Left, right, bottom, top of the plane's images, whose middles are its places."""
    x, y = (
        (high - low) / (plane.side - 1) / 2
        for low, high in ((plane.left, plane.right), (plane.bottom, plane.top))
    )
    return plane.left - x, plane.right + x, plane.bottom - y, plane.top + y
