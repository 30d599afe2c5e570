"""Random changes of images in which boxes move with the pixels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Draw, Field
from dltrain.data.detection.mosaic import Mosaic, gathered
from dltrain.data.detection.moving import clipped, moved, packed, real
from dltrain.data.images.source import ImageAugment
from dltrain.data.images.warp import places, sample

BOXES = "boxes"
BESIDE = ("labels", "ignored")
"""Columns with a row a box."""
LOST = "boxes_lost"
"""How many boxes of an image augmentation has left too little of."""


class BoxAugment(ImageAugment):
    """The changes of its parent, of place, color and content; a box is the one that encloses it.

    ``mosaic`` is the fraction of images that become four, each in a corner
    (:class:`~dltrain.data.detection.mosaic.Mosaic`), which meet anywhere in the middle half, each
    ``mosaic_scale`` (lowest, highest) of its size. ``mixup`` adds a neighbor's boxes to an image's;
    an image that is less than ``visible`` of the sum loses its own. cutmix is refused.

    A box is clipped at the border, and left out, and counted in ``boxes_lost`` (batch,), where less
    than ``visible`` of its area is left, or less than a pixel each way.
    """

    def __init__(
        self,
        mosaic: float = 0.0,
        mosaic_scale: tuple[float, float] = (0.5, 1.0),
        visible: float = 0.25,
        **changes: Any,
    ) -> None:
        super().__init__(**changes)
        if not 0 <= mosaic <= 1:
            raise ValueError(f"mosaic is a fraction from 0 to 1, got {mosaic}")
        low, high = mosaic_scale
        if not 0 < low <= high:
            raise ValueError(f"mosaic_scale is [lowest, highest], above 0; got {[low, high]}")
        if not 0 <= visible <= 1:
            raise ValueError(f"visible is a fraction from 0 to 1, got {visible}")
        if self.cutmix:
            raise ValueError("cutmix would cut boxes in two: cutmix=0")
        self.mosaic, self.mosaic_scale, self.visible = mosaic, (low, high), visible

    @property
    def active(self) -> bool:
        """Always: boxes that are lost are counted."""
        return True

    def check(self, fields: Mapping[str, Field]) -> None:
        """Raise :class:`ValueError` where there are not three colors to be changed."""
        channels = fields["input"].shape[0]
        if self.saturation and channels not in (None, 3):
            raise ValueError(f"saturation is of red, green and blue; here are {channels} channels")

    def __call__(
        self,
        batch: Batch,
        draw: Draw,
        fields: Mapping[str, Field],
        size: tuple[int, int] | None = None,
        corner: Tensor | None = None,
    ) -> Batch:
        """Change images (batch, c, h, w) with values 0..255, made float, and their boxes."""
        assert size is None and corner is None, "boxes come with whole images"
        images, boxes = batch["input"].float(), batch[BOXES]
        size = (images.shape[2], images.shape[3])
        keep = real(batch[f"{BOXES}_length"], boxes.shape[1])
        beside = {name: batch[name] for name in BESIDE}
        if self.mosaic or self._warps:
            matrix, displacement = self.matrix(images, draw), self.displacement(images, draw, size)
            grid = places(size, matrix, displacement)
            if self.mosaic:
                mosaic = self._mosaic(images, draw)
                images = sample(mosaic.atlas(images), mosaic.places(grid, size))
                boxes, keep = mosaic.boxes(boxes, size), mosaic.kept(keep)
                beside = {name: gathered(column) for name, column in beside.items()}
            else:
                images = sample(images, grid)
            boxes = moved(boxes, size, matrix, displacement)
        if self._colors:
            images = self._recolor(images, draw.generator)
        boxes, enough = clipped(boxes, size, self.visible)
        lost = (keep & ~enough).sum(1)
        return self._with(batch | {"input": images, LOST: lost}, keep & enough, boxes, beside)

    def after(self, batch: Batch, draw: Draw, fields: Mapping[str, Field]) -> Batch:
        """Cut out of, and mix, a batch of normalized images, in which 0 is the mean."""
        if self.cutout:
            batch = self.cut_out(batch, draw, ["input"])
        if self._mixup is None:
            return batch
        images, boxes = batch["input"], batch[BOXES]
        drawn = torch.empty(len(images), device=images.device).uniform_(generator=draw.generator)
        own = self._mixup(drawn)
        keep = real(batch[f"{BOXES}_length"], boxes.shape[1])
        both = torch.cat((keep, keep.roll(1, 0)), 1)
        seen = torch.stack((own, 1 - own), 1) >= self.visible
        kept = both & seen.repeat_interleave(boxes.shape[1], 1)
        mixed = torch.lerp(images.roll(1, 0), images, own[:, None, None, None])
        doubled = {n: torch.cat((batch[n], batch[n].roll(1, 0)), 1) for n in (BOXES, *BESIDE)}
        # Of two images that share their boxes, what one loses the other may still have.
        lost = batch[LOST] + (both & ~kept).sum(1)
        changed = batch | {"input": mixed, LOST: lost}
        return self._with(changed, kept, doubled.pop(BOXES), doubled)

    def _with(
        self, batch: Batch, keep: Tensor, boxes: Tensor, beside: Mapping[str, Tensor]
    ) -> Batch:
        """``batch`` with these boxes, those that are kept first."""
        lengths, (found, *others) = packed(keep, boxes, *beside.values())
        columns = {BOXES: found, **dict(zip(beside, others, strict=True))}
        return batch | columns | {f"{name}_length": lengths for name in columns}

    def _mosaic(self, images: Tensor, draw: Draw) -> Mosaic:
        drawn = torch.empty(4, len(images), device=images.device).uniform_(generator=draw.generator)
        low, high = self.mosaic_scale
        meeting = torch.stack((drawn[0], drawn[1]), 1) - 0.5
        return Mosaic(meeting, low + (high - low) * drawn[2], drawn[3] < self.mosaic)
