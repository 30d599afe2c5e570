"""Objects found in images: boxes that are right, missed and made up; precision against recall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dltrain.reports.canvas import ORANGE, PALETTE, RED, blank, in_legend, light_frame, shortened

GREEN = PALETTE[2]
COLUMNS = 3
LARGEST = 2048
"""Pixels of a painted image's longer side."""
LETTER = 0.035
"""The height of a box's caption, as a fraction of the image's longer side."""


class Outlined(NamedTuple):
    """Boxes (n, 4), their labels (n,), and scores (n,), or which are to be ignored (n,)."""

    boxes: NDArray[Any]
    labels: NDArray[Any]
    values: NDArray[Any]


class Matched(NamedTuple):
    """What was found in an image, which of it is ``right`` (n,), and what of the truth is missed.

    What lies in a region to be ignored is left out.
    """

    found: Outlined
    right: NDArray[np.bool_]
    missed: Outlined


def matched(found: Outlined, truth: Outlined, overlap: float) -> Matched:
    """The surest first takes the object of its class that it overlaps most, as COCO has it."""
    ignored = truth.values.astype(bool)
    free = ~ignored
    right = np.zeros(len(found.boxes), bool)
    kept = np.ones(len(found.boxes), bool)
    for place in np.argsort(-found.values, kind="stable"):
        alike = truth.labels == found.labels[place]
        shared = _overlaps(found.boxes[place], truth.boxes) * (alike & free)
        if len(shared) and shared.max() >= overlap:
            right[place] = True
            free[shared.argmax()] = False
        elif _inside(found.boxes[place], truth.boxes[ignored & alike]) >= overlap:
            kept[place] = False
    return Matched(
        Outlined(*(column[kept] for column in found)),
        right[kept],
        Outlined(*(column[free] for column in truth)),
    )


def draw_detections(
    images: NDArray[Any], drawn: Sequence[Matched], class_names: Sequence[str], title: str = ""
) -> Figure:
    """Images (n, height, width, channels) of 0..1 with boxes: right, missed and made up."""
    if not len(images):
        figure = blank(5, 1.5)
        figure.text(0.5, 0.5, "every object is found, and nothing else", ha="center", va="center")
        return figure
    columns = min(COLUMNS, len(images))
    rows = math.ceil(len(images) / columns)
    height, width = images.shape[1:3]
    figure = blank(columns * 4.2, rows * 4.2 * height / width + 0.6)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, one in zip(grid.flat, images, drawn, strict=False):
        axes.imshow(image if image.shape[2] == 3 else image.mean(2), cmap="gray", vmin=0, vmax=1)
        for box, label in zip(one.missed.boxes, one.missed.labels, strict=True):
            _outline(axes, box, ORANGE, shortened(class_names[int(label)], 10), "--")
        for place, box in enumerate(one.found.boxes):
            color = GREEN if one.right[place] else RED
            name = shortened(class_names[int(one.found.labels[place])], 10)
            _outline(axes, box, color, f"{name} {one.found.values[place]:.2f}", "-")
    counts = [
        sum(int(one.right.sum()) for one in drawn),
        sum(len(one.missed.boxes) for one in drawn),
        sum(int((~one.right).sum()) for one in drawn),
    ]
    kinds = ((GREEN, "found"), (ORANGE, "missed"), (RED, "false"))
    handles = [
        Line2D([], [], color=color, label=f"{name} {count:,}")
        for (color, name), count in zip(kinds, counts, strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, title=title)
    return figure


def draw_precision_recall(curves: Mapping[str, NDArray[Any]]) -> Figure:
    """Precision at 101 recalls from 0 to 1, a curve a class, of boxes that overlap by half."""
    figure = blank(6.0, 4.6)
    axes = figure.add_subplot()
    light_frame(axes)
    recall = np.linspace(0, 1, 101)
    for place, (name, precision) in enumerate(curves.items()):
        color = PALETTE[place % len(PALETTE)]
        line = "-" if place < len(PALETTE) else "--"
        label = in_legend(f"{shortened(name)}: {precision.mean():.3f}")
        axes.plot(recall, precision, line, color=color, label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_title("precision and recall at IoU 0.5", fontsize=11)
    if curves:
        axes.legend(title="average precision", loc="lower left", frameon=False, fontsize=9)
    return figure


def restored(
    image: NDArray[np.uint8], size: tuple[int, int], placement: Sequence[float]
) -> tuple[NDArray[np.uint8], float]:
    """The part of a network's input (h, w, 3) that shows the file, in the file's ``size`` (h, w).

    Its point x lies at ``x * placement[0] + placement[2]`` in the input, y alike. Also returns the
    scale, below 1 where the file is larger than ``LARGEST``.
    """
    height, width = size
    scale = min(1.0, LARGEST / max(height, width))
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    scale_x, scale_y, left, top = placement
    box = (left, top, left + width * scale_x, top + height * scale_y)
    # Of what was cropped nothing is known: it is black.
    affine = ((box[2] - box[0]) / wide, 0, box[0], 0, (box[3] - box[1]) / high, box[1])
    found = Image.fromarray(image).transform(
        (wide, high), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
    )
    return np.asarray(found), scale


def paint_boxes(
    image: NDArray[np.uint8], boxes: NDArray[Any], labels: Sequence[int], captions: Sequence[str]
) -> NDArray[np.uint8]:
    """The image (height, width, 3) with boxes in the color of their class, and captions."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    longer = max(image.shape[:2])
    font = ImageFont.load_default(max(9.0, longer * LETTER))
    wide = max(1, round(longer / 250))
    for box, label, caption in zip(boxes.tolist(), labels, captions, strict=True):
        color = PALETTE[label % (len(PALETTE) - 1)]
        draw.rectangle(box, outline=color, width=wide)
        left, top, right, bottom = draw.textbbox((box[0], box[1]), caption, font=font, anchor="lb")
        down = max(0.0, -top)  # a box at the upper border has its caption inside
        draw.rectangle((left, top + down, right, bottom + down), fill=color)
        draw.text((box[0], box[1] + down), caption, "white", font=font, anchor="lb")
    return np.array(canvas)


def _outline(axes: Axes, box: NDArray[Any], color: str, caption: str, line: str) -> None:
    left, top, right, bottom = box
    axes.add_patch(
        Rectangle(
            (left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=1.2,
            linestyle=line,
        )
    )  # fmt: skip
    axes.text(
        left, top, caption, fontsize=5.5, color="white", va="bottom", clip_on=True,
        bbox={"facecolor": color, "edgecolor": "none", "pad": 0.6, "alpha": 0.8},
    )  # fmt: skip


def _overlaps(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    common = _common(box, others)
    area = (box[2:] - box[:2]).prod() + (others[:, 2:] - others[:, :2]).prod(1) - common
    return common / np.maximum(area, 1e-9)


def _inside(box: NDArray[Any], others: NDArray[Any]) -> float:
    """The largest fraction of the box that lies in one of ``others``."""
    area = max(float((box[2:] - box[:2]).prod()), 1e-9)
    return float(_common(box, others).max(initial=0.0)) / area


def _common(box: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    return (high - low).clip(0).prod(1)
