"""Large images in tiles, and images of any size for networks that read only some."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.tiles import spans


def in_tiles(
    ask: Callable[[Tensor], Tensor], images: Tensor, side: int | None, overlap: int
) -> Tensor:
    """What ``ask`` makes of images (batch, c, h, w): maps (batch, k, h, w), tile by tile.

    Images with no side longer than ``side`` are asked about at once; null: all are. Where tiles
    overlap, the means of their maps are taken, weighted the less the nearer the edge of a tile is.
    """
    height, width = images.shape[-2:]
    if side is None or max(height, width) <= side:
        return ask(images)
    total: Tensor | None = None
    weights = images.new_zeros(height, width)
    for top, bottom, _, _ in spans(height, side, overlap):
        for left, right, _, _ in spans(width, side, overlap):
            maps = ask(images[..., top:bottom, left:right])
            rows = _ramp(bottom - top, overlap, top > 0, bottom < height, images)
            columns = _ramp(right - left, overlap, left > 0, right < width, images)
            weight = rows[:, None] * columns
            if total is None:
                total = maps.new_zeros(*maps.shape[:2], height, width)
            total[..., top:bottom, left:right] += maps * weight
            weights[top:bottom, left:right] += weight
    assert total is not None, "an image has pixels"
    return total / weights


def _ramp(length: int, overlap: int, before: bool, after: bool, like: Tensor) -> Tensor:
    """1 in the middle, falling linearly at the ends where there is a neighbor."""
    steps = (torch.arange(length, device=like.device) + 1) / (overlap + 1)
    found = torch.ones(length, device=like.device)
    if before:
        found = found.minimum(steps)
    return found.minimum(steps.flip(0)) if after else found


def mirrored(images: Tensor, left: int, top: int, right: int, bottom: int) -> Tensor:
    """Images (…, h, w) with so many pixels more at each side, mirrored at the border."""
    height, width = images.shape[-2:]
    if max(left, right) < width and max(top, bottom) < height:
        return functional.pad(images, (left, right, top, bottom), mode="reflect")
    rows = _reflected(height, top, bottom, images.device)
    columns = _reflected(width, left, right, images.device)
    return images[..., rows[:, None], columns]


def _reflected(length: int, before: int, after: int, device: torch.device) -> Tensor:
    """The places that are seen in two mirrors, as far beyond the borders as one likes."""
    places = torch.arange(-before, length + after, device=device)
    period = max(1, 2 * (length - 1))
    places = places.remainder(period)
    return torch.where(places < length, places, period - places)
