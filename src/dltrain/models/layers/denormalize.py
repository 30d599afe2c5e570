"""Images as they are seen, and as networks read them."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Field


class Pixels(nn.Module):
    """Undoes the normalization of a field of images (batch, c, h, w), and does it again.

    ``mean`` and ``std`` of the field are a number a channel or one for all; without them its
    images are not normalized. There is nothing to save.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, field: Field) -> None:
        super().__init__()
        self.field = replace(field, role="target", mean=(), std=())
        """What images of 0..1 are."""
        for name, values in (("mean", field.mean or (0.0,)), ("std", field.std or (1.0,))):
            column = torch.tensor(values, dtype=torch.float32)[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def shown(self, inputs: Tensor) -> Tensor:
        """Images of values in 0..1, from a batch's inputs."""
        return (inputs.float() * self.std + self.mean).clamp(0, 1)

    def normalized(self, images: Tensor) -> Tensor:
        """Inputs, from images of values in 0..1."""
        return (images - self.mean) / self.std
