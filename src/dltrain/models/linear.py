"""Linear regression."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from dltrain.models.initialise import Init, initialise


class LinearRegression(nn.Module):
    """``y = W x + b``: inputs (batch, *input_shape) to outputs (batch, outputs)."""

    def __init__(self, input_shape: Sequence[int], outputs: int, init: Init = "default") -> None:
        super().__init__()
        self.linear = nn.Linear(math.prod(input_shape), outputs)
        initialise(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """Flatten everything but the batch, and map it."""
        return self.linear(inputs.flatten(1))
