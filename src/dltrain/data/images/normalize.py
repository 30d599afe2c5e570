"""From pixel values to what a network reads."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dltrain.data.streams.transfer import constant


class Normalize:
    """Scale pixels of 0..255 to 0..1, and normalize each channel by ``mean`` and ``std``.

    These are of pixels in 0..1, one number a channel or one for all.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device) -> None:
        like = torch.empty(0, device=device)
        stds = constant(std, like)[:, None, None]
        self._scale = 1 / (255 * stds)
        self._offset = constant(mean, like)[:, None, None] / stds

    def __call__(self, pixels: Tensor) -> Tensor:
        """Images (batch, c, h, w), uint8 or float32, as float32."""
        # One pass that also converts: uint8 times float32 is float32.
        return (pixels * self._scale).sub_(self._offset)
