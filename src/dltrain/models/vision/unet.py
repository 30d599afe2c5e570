"""U-Net: down to see far, up to see exactly, and across so that nothing gets lost."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.models.layers.shapes import segmented
from dltrain.models.layers.tiling import mirrored


class UNet(nn.Module):
    """U-Net (Ronneberger, Fischer and Brox 2015): (batch, c, h, w) to logits (batch, k, h, w).

    As it stands, the network of the paper: ``depth`` times two 3x3 convolutions and a pooling,
    from ``width`` channels that double each time, and the same way up by transposed convolutions;
    each step up also reads what the step down of its size gave. Convolutions look only inside
    (``padding=valid``), so that 572x572 pixels come out as 388x388: images are mirrored at their
    borders as far as that takes, and come out whole (the paper's overlap-tile strategy). With
    ``padding=same`` they are padded by zeros instead, at half of the work. ``batch_norm`` follows
    each convolution; ``dropout`` is at the end of the way down. Weights begin as in He et al. 2015.

    Images may have any size. Raises ValueError for data without masks.
    """

    def __init__(
        self,
        spec: DataSpec,
        width: int = 64,
        depth: int = 4,
        padding: Literal["valid", "same"] = "valid",
        batch_norm: bool = False,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        channels, classes = segmented("a U-Net", spec)
        if width < 1 or depth < 1:
            raise ValueError(f"width and depth are at least 1, got {width} and {depth}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a probability below 1, got {dropout}")
        self.depth, self.valid = depth, padding == "valid"
        sizes = [width * 2**step for step in range(depth + 1)]
        border = 0 if self.valid else 1

        def block(inside: int, outside: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for size in (inside, outside):
                layers.append(nn.Conv2d(size, outside, 3, padding=border, bias=not batch_norm))
                layers += [nn.BatchNorm2d(outside)] if batch_norm else []
                layers.append(nn.ReLU())
            return nn.Sequential(*layers)

        pairs = zip([channels, *sizes], sizes, strict=False)
        self.down = nn.ModuleList(block(inside, outside) for inside, outside in pairs)
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        ways = list(zip(sizes[:0:-1], sizes[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(a, b, 2, stride=2) for a, b in ways)
        self.merge = nn.ModuleList(block(a, b) for a, b in ways)
        self.last = nn.Conv2d(width, classes, 1)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
                fan = layer.kernel_size[0] * layer.kernel_size[1] * layer.in_channels
                if isinstance(layer, nn.ConvTranspose2d):  # each output is of one of its places
                    fan = layer.in_channels
                nn.init.normal_(layer.weight, std=math.sqrt(2 / fan))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of each pixel."""
        height, width = images.shape[-2:]
        (top, bottom), (left, right) = self.margins(height), self.margins(width)
        maps = self.inside(mirrored(images, left, top, right, bottom))
        return maps[..., :height, :width]

    def inside(self, images: Tensor) -> Tensor:
        """Images whose sides fit, as the layers have them: valid convolutions leave less."""
        across: list[Tensor] = []
        maps = images
        for step, block in enumerate(self.down):
            maps = block(self.pool(maps) if step else maps)
            across.append(maps)
        maps = self.dropout(across.pop())
        for up, merge in zip(self.up, self.merge, strict=True):
            maps = up(maps)
            beside = across.pop()
            cut = [(a - b) // 2 for a, b in zip(beside.shape[-2:], maps.shape[-2:], strict=True)]
            rows = slice(cut[0], cut[0] + maps.shape[-2])
            columns = slice(cut[1], cut[1] + maps.shape[-1])
            maps = merge(torch.cat([beside[..., rows, columns], maps], 1))
        logits: Tensor = self.last(maps)
        return logits

    def margins(self, side: int) -> tuple[int, int]:
        """How many pixels are mirrored before and after ``side`` of them, so that all come out."""
        lost = 4 if self.valid else 0
        bottom = outside = 0
        while outside < side:
            bottom += 1
            outside = bottom
            for _ in range(self.depth):
                outside = 2 * outside - lost
        needed = bottom + lost
        for _ in range(self.depth):
            needed = 2 * needed + lost
        before = (needed - outside) // 2
        return before, needed - side - before
