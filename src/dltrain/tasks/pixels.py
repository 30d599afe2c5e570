"""Pictures as they are seen, and as networks read them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Pixels(nn.Module):
    """Undoes a source's normalisation of pictures (batch, c, h, w), and does it again.

    ``mean`` and ``std`` are its facts, a number a channel or one for all; without them its
    pictures are not normalised. There is nothing to save.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        super().__init__()
        for name, values in (("mean", mean or [0.0]), ("std", std or [1.0])):
            column = torch.tensor(values, dtype=torch.float32)[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def shown(self, inputs: Tensor) -> Tensor:
        """Pictures of values in 0..1, from a batch's inputs."""
        return (inputs.float() * self.std + self.mean).clamp(0, 1)

    def normalised(self, pictures: Tensor) -> Tensor:
        """Inputs, from pictures of values in 0..1."""
        return (pictures - self.mean) / self.std
