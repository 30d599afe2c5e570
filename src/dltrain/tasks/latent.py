"""Codes to images, and ways between codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Field
from dltrain.contracts.task import Predictions
from dltrain.metrics.generative import Decode

AT_ONCE = 500
"""Codes that are decoded in one go."""
EXPORTED = 8
"""Images on which an exported generator is compared."""
FLAT = 1e-3
"""The sine of the angle between two points below which the way between them is straight."""


class Decoding(nn.Module):
    """Images, of ``field``, as ``decode``, a method of ``task``, makes them."""

    def __init__(self, task: nn.Module, decode: Decode, field: Field) -> None:
        super().__init__()
        self.task, self.field = task, field
        self._decode = decode

    def forward(self, code: Tensor) -> Predictions:
        """A column ``image`` (batch, c, h, w)."""
        return Predictions({"image": self._decode(code)}, {"image": self.field})


def decoded(codes: Tensor, decode: Decode) -> Tensor:
    """The images (n, c, h, w) of any number of codes (n, latent_size), in float32."""
    return torch.cat([decode(some).float() for some in codes.split(AT_ONCE)])


def between(starts: Tensor, ends: Tensor, steps: int) -> Tensor:
    """Points (rows, steps, size) on the great circles between points (rows, size), ends included.

    Draws of a normal distribution all have about the same length in many dimensions, and so have
    the points on these ways, but not those on straight ones (White 2016).
    """
    fractions = torch.linspace(0, 1, steps, device=starts.device)[:, None]
    straight = torch.lerp(starts[:, None], ends[:, None], fractions)
    cosine = torch.cosine_similarity(starts, ends, dim=1).clamp(-1, 1)
    angle = cosine.acos()[:, None, None]
    one, other = ((1 - fractions) * angle).sin(), (fractions * angle).sin()
    arcs = (one * starts[:, None] + other * ends[:, None]) / angle.sin()
    # Through points on one line with 0 there is no circle, or there are many.
    return arcs.where(angle.sin() > FLAT, straight)
