"""From the host to a device without a wait: what a step must not stop for."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def fetched(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` of the host on ``device``; a CUDA device fetches it while the host goes on."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def constant(values: Sequence[float], like: Tensor) -> Tensor:
    """A vector of ``values``, of the kind of ``like``; it is copied there once.

    What it returns is shared: nothing may write to it.
    """
    return _constant(tuple(values), like.dtype, like.device)


@lru_cache(maxsize=256)
def _constant(values: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # whoever asks for it first, training may be next
        return torch.tensor(values, dtype=dtype, device=device)
