"""How what was made compares with what is real."""

from __future__ import annotations

import torch
from torch import Tensor


def sliced_wasserstein(one: Tensor, other: Tensor, directions: int = 128, seed: int = 0) -> float:
    """How far apart two sets of as many points (n, dimensions) are, as distributions.

    The mean over random directions of the Wasserstein-1 distance of what the points are along
    each (Bonneel et al. 2015, with their sums for its integral). The directions depend on
    ``seed`` and the dimensions alone, so distances can be compared.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(one.shape[1], directions, generator=generator, dtype=torch.float32)
    along = (drawn / drawn.norm(dim=0)).to(one.device)
    with torch.autocast(one.device.type, enabled=False):
        places = [(points.float() @ along).sort(dim=0).values for points in (one, other)]
    return float((places[0] - places[1]).abs().mean(dtype=torch.float64))
