"""What annotation files say of an image, checked: which boxes are used, clipped or left out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dltrain.data.detection.placement import Placement
from dltrain.data.images.listing import Unused
from dltrain.errors import UserError

SHOWN = 5
"""Faults that a message names."""
VISIBLE = 0.25
"""The fraction of a box that is to be left where ``fit=crop`` cuts images, or it is left out."""


class Box(NamedTuple):
    """One object: left, top, right, bottom in pixels of its file, or in fractions of the sides.

    ``place`` says where it was read, for a message. What is ``ignored``, such as a crowd, is
    neither trained on nor counted in an evaluation.
    """

    name: str
    left: float
    top: float
    right: float
    bottom: float
    place: str
    ignored: bool = False
    fractions: bool = False


class Annotated(NamedTuple):
    """An image, the width and height that its annotation gives it (None: nothing), its boxes."""

    image: Path
    size: tuple[int, int] | None
    boxes: Sequence[Box]
    place: str


@dataclass
class Findings:
    """What was wrong with annotations: ``faults`` are to be mended, ``counts`` need not be.

    ``left_out`` counts what is not used, ``changed`` what is used otherwise than it stands.
    """

    faults: list[str] = field(default_factory=list)
    left_out: Unused = field(default_factory=Unused)
    changed: Unused = field(default_factory=Unused)

    def fault(self, place: str, problem: str) -> None:
        """Note what is refused, unless faults are skipped."""
        self.faults.append(f"{place}: {problem}")

    def settle(self, skip: bool) -> None:
        """Raise :class:`UserError` naming the first faults; or count them as left out."""
        if skip:
            for fault in self.faults:
                self.left_out.add("with a fault", fault)
        elif self.faults:
            rest = len(self.faults) - SHOWN
            raise UserError(
                "\n".join(self.faults[:SHOWN])
                + (f"\nand {rest:,} more" if rest > 0 else "")
                + "\nMend or remove them, or set data.skip_faulty=true."
            )
        self.faults = []


class Boxes(NamedTuple):
    """Those of many images, end to end: corners (n, 4) in the input's pixels, and so on (n,).

    ``counts`` (images,) says how many each image has, ``used`` which images are used at all.
    """

    corners: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.int64]
    used: npt.NDArray[np.bool_]


def checked_boxes(
    images: Sequence[Annotated],
    sizes: Sequence[tuple[int, int]],
    placements: Sequence[Placement],
    inside: tuple[int, int],
    classes: Mapping[str, int],
    findings: Findings,
) -> Boxes:
    """The boxes of ``images``, whose files are of ``sizes`` (width, height), in the input's pixels.

    ``inside`` is the input's width and height. Boxes of other than ``classes``, without area and
    with the class and the corners of another are left out and counted, boxes that reach over the
    border clipped. Faults, after which a box or image is not used, are those of order, of numbers,
    and of an image's size.
    """
    rows: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    ignored: list[bool] = []
    counts, used = [], []
    for image, size, placed in zip(images, sizes, placements, strict=True):
        before = len(rows)
        fits = _right_size(image, size, findings)
        used.append(fits)
        seen: set[tuple[Any, ...]] = set()
        for box in image.boxes if fits else ():
            same = (box.name, box.left, box.top, box.right, box.bottom, box.ignored)
            if same in seen:
                findings.left_out.add("the same box twice", box.place)
                continue
            seen.add(same)
            corners = _corners(box, size, findings)
            if corners is None:
                continue
            if box.name not in classes:
                findings.left_out.add("left out by data.classes", box.name)
                continue
            moved = _moved(corners, placed, inside)
            if moved is None:
                findings.left_out.add("beyond what data.fit=crop keeps", box.place)
                continue
            rows.append(moved)
            labels.append(classes[box.name])
            ignored.append(box.ignored)
        counts.append(len(rows) - before)
    return Boxes(
        np.array(rows, np.float32).reshape(-1, 4),
        np.array(labels, np.int64),
        np.array(ignored, np.bool_),
        np.array(counts, np.int64),
        np.array(used, np.bool_),
    )


def names_of(images: Iterable[Annotated]) -> list[str]:
    """What classes their boxes are of, in alphabetical order."""
    return sorted({box.name for image in images for box in image.boxes})


def _right_size(image: Annotated, size: tuple[int, int], findings: Findings) -> bool:
    """Whether the image is of the size that its annotation gives it, as it is seen upright."""
    said = image.size
    if said is None or said == size or not all(said):  # some tools write 0x0
        return True
    turned = (
        " (the other way round: if EXIF data turns it, were the boxes drawn before?)"
        if said == size[::-1]
        else ""
    )
    findings.fault(
        image.place,
        f"says that {image.image.name} is {said[0]}x{said[1]}, and it is {size[0]}x{size[1]}"
        f"{turned}",
    )
    return False


def _corners(
    box: Box, size: tuple[int, int], findings: Findings
) -> tuple[float, float, float, float] | None:
    """The corners within an image of ``size``; None where there is no box to be used."""
    corners = (box.left, box.top, box.right, box.bottom)
    shown = ", ".join(f"{value:g}" for value in corners)
    if not all(map(math.isfinite, corners)):
        findings.fault(box.place, f"a box has a number that is not finite: {shown}")
        return None
    if box.right < box.left or box.bottom < box.top:
        findings.fault(
            box.place, f"a box's corners are in the wrong order: left, top, right, bottom {shown}"
        )
        return None
    width, height = size
    if box.fractions:
        corners = (box.left * width, box.top * height, box.right * width, box.bottom * height)
    left, top, right, bottom = corners
    if right == left or bottom == top:
        findings.left_out.add("without area", box.place)
        return None
    clipped = (max(0.0, left), max(0.0, top), min(width, right), min(height, bottom))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        findings.left_out.add("outside of the image", box.place)
        return None
    # Fractions of six digits miss the border by less than that.
    if max(abs(a - b) for a, b in zip(corners, clipped, strict=True)) > 1e-3:
        findings.changed.add("clipped at the image's border", box.place)
    return clipped


def _moved(
    corners: tuple[float, float, float, float], placed: Placement, inside: tuple[int, int]
) -> tuple[float, float, float, float] | None:
    left, right = (corners[i] * placed.scale_x + placed.x_offset for i in (0, 2))
    top, bottom = (corners[i] * placed.scale_y + placed.y_offset for i in (1, 3))
    width, height = inside
    cut = (max(0.0, left), max(0.0, top), min(width, right), min(height, bottom))
    whole = (right - left) * (bottom - top)
    seen = max(0.0, cut[2] - cut[0]) * max(0.0, cut[3] - cut[1])
    return cut if seen >= VISIBLE * whole else None
