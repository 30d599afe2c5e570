"""Initial weights by name, as the literature names them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

Init = Literal["default", "zeros", "normal", "xavier", "kaiming", "orthogonal"]

_FILL = {
    "zeros": nn.init.zeros_,
    "normal": lambda weight: nn.init.normal_(weight, std=0.01),
    "xavier": nn.init.xavier_uniform_,
    "kaiming": lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
}


@torch.no_grad()
def initialize(module: nn.Module, init: Init) -> None:
    """Fill the weights of every dense and convolutional layer in ``module``; biases become 0.

    ``xavier``: Glorot and Bengio 2010, uniform. ``kaiming``: He et al. 2015, normal, for ReLU.
    ``orthogonal``: Saxe et al. 2014. ``normal``: N(0, 0.01). ``default`` leaves torch's own.
    """
    if init == "default":
        return
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            _FILL[init](layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
