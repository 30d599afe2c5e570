"""The multi-layer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from dltrain.errors import require_fraction
from dltrain.models.layers.activations import ACTIVATIONS, Activation
from dltrain.models.layers.init import Init, initialize


class MLP(nn.Module):
    """Dense layers: inputs (batch, *input_shape) to outputs (batch, outputs), no final activation.

    Every hidden layer is dense, batch norm (if asked), activation, dropout. ``input_dropout``
    acts on the inputs themselves (0.2 in Srivastava et al. 2014).
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        hidden: Sequence[int] = (256, 128),
        activation: Activation = "relu",
        init: Init = "default",
        batch_norm: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_fraction(dropout=dropout, input_dropout=input_dropout)
        if any(width < 1 for width in hidden):
            raise ValueError(f"hidden needs at least one unit a layer, got {list(hidden)}")
        widths = [math.prod(input_shape), *hidden]
        layers: list[nn.Module] = [nn.Flatten()]
        if input_dropout:
            layers.append(nn.Dropout(input_dropout))
        for before, after in pairwise(widths):
            # Batch norm has a shift of its own, so a bias before it would do nothing.
            layers.append(nn.Linear(before, after, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(after))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(widths[-1], outputs))
        self.layers = nn.Sequential(*layers)
        initialize(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """Flatten everything but the batch, and map it through the layers."""
        return self.layers(inputs)
