"""A single-shot detector that is read in an evening: cells of three sizes, no anchors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec

STRIDES = (8, 16, 32)
"""Pixels of the input to a cell of each level."""
PRIOR = 0.01
"""How probable each class is at first (Lin et al. 2017, section 4.1): most cells have nothing."""
REACH = 2.0
"""Strides from a cell's center to each side of its box, at first."""


class Cells(NamedTuple):
    """What a network says of every cell of every level, the finest first.

    ``logits`` (batch, cells, classes); ``boxes`` (batch, cells, 4): left, top, right, bottom in
    pixels of the input; ``centers`` (cells, 2), x and y in pixels, and ``strides`` (cells,).
    """

    logits: Tensor
    boxes: Tensor
    centers: Tensor
    strides: Tensor


class Conv(nn.Sequential):
    """A convolution that keeps the size but for its ``stride``, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(inplace=True),
        )


class CrossStage(nn.Module):
    """Half of the channels through ``depth`` residual blocks, and everything joined.

    A cross stage partial block (Wang et al. 2020, CSPNet), of which every block's output is kept,
    as in YOLOv8. With ``residual=False`` the blocks replace what they read.
    """

    def __init__(self, inputs: int, outputs: int, depth: int, residual: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.enter = Conv(inputs, 2 * half, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(Conv(half, half), Conv(half, half)) for _ in range(depth)
        )
        self.leave = Conv((2 + depth) * half, outputs, 1)
        self.residual = residual

    def forward(self, features: Tensor) -> Tensor:
        """Channels ``inputs`` to ``outputs``."""
        parts = list(self.enter(features).chunk(2, 1))
        for block in self.blocks:
            found = block(parts[-1])
            parts.append(parts[-1] + found if self.residual else found)
        return self.leave(torch.cat(parts, 1))


class Pooled(nn.Module):
    """The largest values within 5, 9 and 13 cells beside each cell's own (He et al. 2015)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.enter, self.leave = Conv(channels, channels // 2, 1), Conv(2 * channels, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """As many channels."""
        parts = [self.enter(features)]
        for _ in range(3):
            parts.append(functional.max_pool2d(parts[-1], 5, 1, 2))
        return self.leave(torch.cat(parts, 1))


class Head(nn.Module):
    """Class logits and distances of a level's cells, each by layers of its own (Ge et al. 2021)."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Sequential(Conv(channels, channels), nn.Conv2d(channels, classes, 1))
        self.locate = nn.Sequential(Conv(channels, channels), nn.Conv2d(channels, 4, 1))
        last, reach = self.classify[-1], self.locate[-1]
        assert isinstance(last, nn.Conv2d) and isinstance(reach, nn.Conv2d)
        assert last.bias is not None and reach.bias is not None
        nn.init.constant_(last.bias, -math.log((1 - PRIOR) / PRIOR))
        nn.init.constant_(reach.bias, math.log(math.expm1(REACH)))
        nn.init.normal_(last.weight, std=0.01)
        nn.init.normal_(reach.weight, std=0.01)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (batch, classes, h, w), and distances in strides (batch, 4, h, w), above 0."""
        return self.classify(features), functional.softplus(self.locate(features))


class Yolo(nn.Module):
    """Images (batch, c, h, w) to :class:`Cells`: every cell says a class and a box around it.

    In the manner of YOLO (Redmon et al. 2016) as it is built today: a backbone of cross stage
    partial blocks, a feature pyramid down (Lin et al. 2017) and up again (Liu et al. 2018, PANet),
    and a head that gives the distances from a cell's center to the four sides of its box, without
    anchors (Tian et al. 2019, FCOS). ``width`` are the channels of the first layer, the pyramid has
    4 times as many; ``depth`` counts the residual blocks of a stage. Width 16 and depth 1 have 1.0
    million parameters, and 32 and 1 4.0.

    Images whose sides are no multiples of 32 are padded with zeros at the right and at the bottom.
    Raises ValueError where the data has no boxes, or a width or depth is below 1.
    """

    def __init__(self, spec: DataSpec, width: int = 16, depth: int = 1) -> None:
        super().__init__()
        channels, classes = channels_and_classes(spec)
        if width < 2 or depth < 1:
            raise ValueError(f"width must be >= 2 and depth >= 1, got {width} and {depth}")
        self.stem = Conv(channels, width, 3, 2)
        self.stages = nn.ModuleList(
            nn.Sequential(
                Conv(inputs, outputs, 3, 2),
                CrossStage(outputs, outputs, depth),
            )
            for inputs, outputs in (
                (width, 2 * width),
                (2 * width, 4 * width),
                (4 * width, 8 * width),
                (8 * width, 8 * width),
            )
        )
        self.pooled = Pooled(8 * width)
        wide = 4 * width
        self.sides = nn.ModuleList(Conv(n * width, wide, 1) for n in (4, 8, 8))
        self.down = nn.ModuleList(CrossStage(2 * wide, wide, depth, False) for _ in range(2))
        self.steps = nn.ModuleList(Conv(wide, wide, 3, 2) for _ in range(2))
        self.up = nn.ModuleList(CrossStage(2 * wide, wide, depth, False) for _ in range(2))
        self.heads = nn.ModuleList(Head(wide, classes) for _ in STRIDES)

    def forward(self, images: Tensor) -> Cells:
        """Look at the images."""
        levels = self.pyramid(images)
        pairs = [head(level) for head, level in zip(self.heads, levels, strict=True)]
        centers, strides = cells(levels)
        logits = torch.cat([one.flatten(2) for one, _ in pairs], 2).transpose(1, 2)
        distances = torch.cat([other.flatten(2) for _, other in pairs], 2).transpose(1, 2)
        reach = distances.float() * strides[:, None]
        boxes = torch.cat((centers - reach[..., :2], centers + reach[..., 2:]), -1)
        return Cells(logits, boxes, centers, strides)

    def pyramid(self, images: Tensor) -> list[Tensor]:
        """Features (batch, 4 * width, h / stride, w / stride) of each level."""
        height, width = images.shape[2:]
        last = STRIDES[-1]
        found = self.stem(functional.pad(images, (0, -width % last, 0, -height % last)))
        stages = []
        for stage in self.stages:
            found = stage(found)
            stages.append(found)
        fine, middle, coarse = (
            side(one)
            for side, one in zip(self.sides, (*stages[1:3], self.pooled(stages[3])), strict=True)
        )
        middle = self.down[0](torch.cat((middle, _doubled(coarse)), 1))
        fine = self.down[1](torch.cat((fine, _doubled(middle)), 1))
        middle = self.up[0](torch.cat((self.steps[0](fine), middle), 1))
        coarse = self.up[1](torch.cat((self.steps[1](middle), coarse), 1))
        return [fine, middle, coarse]


def channels_and_classes(spec: DataSpec) -> tuple[int, int]:
    """Of the images, and of the boxes in them. Raises ValueError for data without boxes."""
    if not any(field.kind == "boxes" for field in spec.of("target")):
        raise ValueError("a detector needs boxes, and this data has none: data=voc, coco, yolo_txt")
    channels, classes = spec.input.shape[0], spec.fields["labels"].size
    assert channels and classes, "they are known once the data is read"
    return channels, classes


def cells(levels: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The centers (cells, 2) of all levels' cells, in pixels, and their strides (cells,)."""
    centers, strides = [], []
    for stride, level in zip(STRIDES, levels, strict=True):
        height, width = level.shape[2:]
        x = (torch.arange(width, device=level.device) + 0.5) * stride
        y = (torch.arange(height, device=level.device) + 0.5) * stride
        grid = torch.stack((x.expand(height, width), y[:, None].expand(height, width)), -1)
        centers.append(grid.reshape(-1, 2))
        strides.append(torch.full((height * width,), float(stride), device=level.device))
    return torch.cat(centers), torch.cat(strides)


def _doubled(features: Tensor) -> Tensor:
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")
