"""Preparing pictures: from uint8 to normalised floats, with augmentation, a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.data.loaders import Prepare
from dltrain.types import Batch


class PictureAugment:
    """Random shifts, rotations and scalings, another for every picture, on the device.

    ``shift`` is in pixels each way, ``rotate`` in degrees each way, ``scale`` a share (0.1 is
    90 to 110 %), ``flip`` the probability of a left-right mirror image. All zero costs nothing.
    What comes in from beyond the border is the background, pixel value 0.
    """

    def __init__(
        self, shift: float = 0.0, rotate: float = 0.0, scale: float = 0.0, flip: float = 0.0
    ) -> None:
        if min(shift, rotate, scale, flip) < 0 or scale >= 1 or flip > 1:
            raise ValueError(
                "shift, rotate and scale are not negative, scale below 1, flip in 0..1"
            )
        self.shift, self.rotate, self.scale, self.flip = shift, rotate, scale, flip

    @property
    def active(self) -> bool:
        """Whether any picture would change."""
        return bool(self.shift or self.rotate or self.scale or self.flip)

    def __call__(self, pictures: Tensor, generator: torch.Generator) -> Tensor:
        """Warp float pictures (batch, c, h, w), drawing from ``generator`` alone."""
        count, _, height, width = pictures.shape
        uniform = torch.empty(5, count, device=pictures.device).uniform_(-1, 1, generator=generator)
        angle = uniform[0] * math.radians(self.rotate)
        zoom = 1 / (1 + uniform[1] * self.scale)
        mirror = 1 - 2 * ((uniform[4] + 1) / 2 < self.flip).to(pictures.dtype)
        # affine_grid maps output to input in coordinates that run from -1 to 1 over each side.
        theta = torch.empty(count, 2, 3, device=pictures.device)
        theta[:, 0, 0] = zoom * angle.cos() * mirror
        theta[:, 0, 1] = -zoom * angle.sin() * (height / width)
        theta[:, 0, 2] = uniform[2] * (2 * self.shift / width)
        theta[:, 1, 0] = zoom * angle.sin() * mirror * (width / height)
        theta[:, 1, 1] = zoom * angle.cos()
        theta[:, 1, 2] = uniform[3] * (2 * self.shift / height)
        grid = functional.affine_grid(theta, list(pictures.shape), align_corners=False)
        return functional.grid_sample(pictures, grid, align_corners=False)


def prepare_pictures(
    mean: Sequence[float], std: Sequence[float], augment: PictureAugment, device: torch.device
) -> Prepare:
    """Scale uint8 pictures to 0..1 and normalise each channel to ``mean`` 0 and ``std`` 1."""
    if min(std) <= 0:
        raise ValueError(f"a standard deviation is above 0, got {list(std)}")
    deviations = torch.tensor(std, device=device)[:, None, None]
    scale = 1 / (255 * deviations)
    offset = torch.tensor(mean, device=device)[:, None, None] / deviations

    def prepare(batch: Batch, generator: torch.Generator | None) -> Batch:
        pictures = batch["input"]
        if generator is not None and augment.active:
            pictures = augment(pictures.float(), generator)
        # One pass that also converts: uint8 times float32 is float32.
        batch["input"] = (pictures * scale).sub_(offset)
        return batch

    return prepare
