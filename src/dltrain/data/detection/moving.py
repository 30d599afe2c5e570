"""Boxes that move with the pixels of a batch of images, and what is left of them.

Boxes are (batch, n, 4): left, top, right, bottom, in pixels from the image's upper left corner.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.data.streams.transfer import constant

ROUNDS = 8
"""Of the fixed point that undoes an elastic deformation."""
PER_SIDE = 8
"""Points of a box's side that are followed where it is bent."""


def moved(
    boxes: Tensor, size: tuple[int, int], matrix: Tensor, displacement: Tensor | None = None
) -> Tensor:
    """The upright boxes that enclose ``boxes`` of images of ``size`` (h, w), once these are moved.

    ``matrix`` (batch, 2, 3) and ``displacement`` (batch, 2, h, w) say where each pixel is fetched
    from, as :func:`~dltrain.data.images.warp.places` has it; a box goes the other way. Where sides
    are bent, points on them are followed: the enclosing box is theirs.
    """
    half = _half(size, boxes)
    points = _outline(boxes, 1 if displacement is None else PER_SIDE) - half
    inverse = torch.linalg.inv_ex(matrix[:, :, :2])[0][:, None, None]
    fetched = points - matrix[:, None, None, :, 2]
    found = (inverse @ fetched[..., None])[..., 0]
    if displacement is not None:
        for _ in range(ROUNDS):
            bent = fetched - _at(displacement, found / half)
            found = (inverse @ bent[..., None])[..., 0]
    found = found + half
    return torch.cat((found.amin(2), found.amax(2)), -1)


def clipped(boxes: Tensor, size: tuple[int, int], visible: float) -> tuple[Tensor, Tensor]:
    """What of the boxes lies in images of ``size``, and whether it is enough (batch, n).

    Enough is the fraction ``visible`` of the whole, and a pixel each way.
    """
    height, width = size
    limit = constant((width, height, width, height), boxes)
    cut = torch.minimum(boxes.clamp(min=0), limit)
    sides = cut[..., 2:] - cut[..., :2]
    enough = area(cut) >= visible * area(boxes)
    return cut, enough & (sides >= 1).all(-1)


def area(boxes: Tensor) -> Tensor:
    """In square pixels; 0 where corners are in the wrong order."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def packed(keep: Tensor, *columns: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Those that ``keep`` (batch, n) says first, in their order, all else zero.

    Returns how many they are (batch,), and the ``columns`` (batch, n, …) alike.
    """
    order = (~keep).long().argsort(dim=1, stable=True)
    real = keep.gather(1, order)
    found = []
    for column in columns:
        shape = (*order.shape, *[1] * (column.dim() - 2))
        chosen = column.take_along_dim(order.view(shape), 1)
        found.append(torch.where(real.view(shape), chosen, 0).to(column.dtype))
    return keep.sum(1), found


def real(lengths: Tensor, longest: int) -> Tensor:
    """Which of ``longest`` are no padding, (batch, longest)."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def _half(size: tuple[int, int], like: Tensor) -> Tensor:
    height, width = size
    return constant((width / 2, height / 2), like)


def _outline(boxes: Tensor, per_side: int) -> Tensor:
    """Points (batch, n, 4 * per_side, 2) around each box, its corners among them."""
    steps = torch.arange(per_side, device=boxes.device, dtype=boxes.dtype) / per_side
    ends = constant((0, 0, 1, 0, 1, 1, 0, 1), steps).view(4, 2)
    way = torch.lerp(ends[:, None], ends.roll(-1, 0)[:, None], steps[None, :, None]).flatten(0, 1)
    low, high = boxes[..., None, :2], boxes[..., None, 2:]
    return low + way * (high - low)


def _at(field: Tensor, places: Tensor) -> Tensor:
    """What ``field`` (batch, 2, h, w) is at ``places`` (batch, n, m, 2), each side from -1 to 1."""
    found = functional.grid_sample(
        field, places.to(field.dtype), padding_mode="border", align_corners=False
    )
    return found.permute(0, 2, 3, 1)
