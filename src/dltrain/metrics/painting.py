"""Masks painted over the images that they are of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

STRENGTH = 0.45
"""How much of a painted pixel is the color of its class."""


def painted(images: Tensor, masks: Tensor, colors: Sequence[Sequence[int]]) -> Tensor:
    """Images (n, c, h, w) of 0..1 with the colors of masks (n, h, w): (n, h, w, 3), uint8.

    A pixel of a class that has no color, such as what is ignored, stays as it is.
    """
    channels = images.shape[1]
    gray = images if channels == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    pixels = gray.float().movedim(1, -1) * 255
    table = torch.tensor([*colors, (0, 0, 0)], dtype=torch.float32, device=images.device)
    numbers = masks.long()
    known = (numbers < len(colors))[..., None]
    color = table[numbers.clamp_max(len(colors))]
    found = torch.where(known, torch.lerp(pixels, color, STRENGTH), pixels)
    return found.round().clamp(0, 255).to(torch.uint8)
