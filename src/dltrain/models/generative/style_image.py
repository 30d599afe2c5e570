"""An image as what is learned."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec


class StyleImage(nn.Module):
    """The image itself, of the size of the data's ``content``, pixels of 0..1.

    ``scales`` are fractions of that size, from coarse to fine, of which each image begins as the
    one before it (Gatys et al. 2017). Called with anything, it returns the image (1, c, h, w) as
    far as it has come: the last one that was begun, in full size.

    Raises ValueError for scales that do not rise to 1, and for data that has no such field.
    """

    begun: Tensor

    def __init__(self, spec: DataSpec, scales: Sequence[float] = (1.0,)) -> None:
        super().__init__()
        if "content" not in spec.fields:
            raise ValueError("this model is an image to be styled: it takes data=style")
        rising = all(a < b for a, b in zip([0.0, *scales], scales, strict=False))
        if not scales or not rising or scales[-1] != 1:
            raise ValueError(f"scales rise to 1, from above 0; got {list(scales)}")
        channels, *sides = (side or 1 for side in spec.fields["content"].shape)
        self.images = nn.ParameterList(
            # L-BFGS cannot take the strides of channels_last, which has no tensors of 3 sides.
            nn.Parameter(torch.zeros(channels, *(max(1, round(s * side)) for side in sides)))
            for s in scales
        )
        self.register_buffer("begun", torch.zeros((), dtype=torch.int64))

    def begin(self, number: int, image: Tensor) -> None:
        """Let image ``number`` be ``image`` (1, c, h, w), brought to its size."""
        with torch.no_grad():
            self.images[number].copy_(resized(image, self.images[number])[0].clamp(0, 1))
            self.begun.fill_(number + 1)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The image, in full size."""
        number = max(0, int(self.begun) - 1)
        return resized(self.images[number][None], self.images[-1])


def resized(image: Tensor, like: Tensor) -> Tensor:
    """``image`` (n, c, h, w) with the height and width of ``like``."""
    size = like.shape[-2:]
    if image.shape[-2:] == size:
        return image
    return functional.interpolate(
        image, size=size, mode="bilinear", align_corners=False, antialias=True
    )
