"""Activation functions by name."""

from __future__ import annotations

from typing import Literal

from torch import nn

Activation = Literal["relu", "leaky_relu", "gelu", "silu", "tanh", "sigmoid"]

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}

# These two dip below zero before they rise.
_NOT_MONOTONIC = {"gelu", "silu"}


def pooled(activation: Activation, pooling: nn.MaxPool2d) -> list[nn.Module]:
    """The layers that compute ``pooling(activation(maps))``, in the cheaper order.

    What never falls commutes with the maximum, and has a fraction of the values to do after it.
    """
    layers = [pooling, ACTIVATIONS[activation]()]
    return layers[::-1] if activation in _NOT_MONOTONIC else layers
