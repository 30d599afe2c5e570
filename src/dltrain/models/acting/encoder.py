"""What an observation is read by: dense layers, or convolutions of a screen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from dltrain.errors import require_units
from dltrain.models.layers.activations import ACTIVATIONS, Activation

LAYERS = ((32, 8, 4), (64, 4, 2), (64, 3, 1))
"""Channels, kernel and stride of each convolution of Mnih et al. 2015."""
SMALLEST = 36
"""Pixels of a side of which the last of them makes one; smaller images are read as numbers."""


def dense(before: int, hidden: Sequence[int], activation: Activation) -> tuple[nn.Sequential, int]:
    """Dense layers, an activation behind each, and how wide the last is."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(before, width), ACTIVATIONS[activation]()]
        before = width
    return nn.Sequential(*layers), before


def eyes(input_shape: Sequence[int], activation: Activation) -> tuple[nn.Sequential, int]:
    """From observations (n, *input_shape) to features (n, width): numbers as they are.

    Images (channels, height, width) go through the convolutions of Mnih et al. 2015, unless a side
    has fewer than ``SMALLEST`` pixels.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < SMALLEST:
        return nn.Sequential(nn.Flatten()), math.prod(input_shape)
    channels, height, width = input_shape
    layers: list[nn.Module] = []
    for out, kernel, stride in LAYERS:
        layers += [nn.Conv2d(channels, out, kernel, stride), ACTIVATIONS[activation]()]
        channels = out
        height, width = ((side - kernel) // stride + 1 for side in (height, width))
    return nn.Sequential(*layers, nn.Flatten()), channels * height * width


def orthogonal(module: nn.Module, gain: float = math.sqrt(2)) -> None:
    """Weights that keep lengths, times ``gain``; no biases."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Conv2d)):
            nn.init.orthogonal_(part.weight, gain)
            assert part.bias is not None
            torch.nn.init.zeros_(part.bias)


def require_layers(hidden: Sequence[int]) -> None:
    """Raise ValueError where a layer has no units, or there is no layer."""
    require_units(hidden=hidden)
    if not hidden:
        raise ValueError("hidden needs at least one layer")
