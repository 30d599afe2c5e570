"""How far boxes overlap."""

from __future__ import annotations

import torch
from torch import Tensor

SMALL = 1e-9


def pairwise_iou(one: Tensor, other: Tensor) -> Tensor:
    """The IoU of boxes (batch, n, 4) with boxes (batch, m, 4), (batch, n, m); 0 without area."""
    low = torch.maximum(one[:, :, None, :2], other[:, None, :, :2])
    high = torch.minimum(one[:, :, None, 2:], other[:, None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (one, other)]
    union = areas[0][:, :, None] + areas[1][:, None] - common
    return common / union.clamp(min=SMALL)
