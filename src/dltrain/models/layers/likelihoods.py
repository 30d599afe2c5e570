"""A decoder's outputs as a distribution over an image's pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGE = (-3, -2, -1)
"""The dimensions of one image: channels, height, width."""


class Bernoulli(nn.Module):
    """Each pixel is 1 with the probability that is its output's sigmoid, else 0.

    Of gray values in between, the logarithm below is minus their cross-entropy, and no
    log-probability.
    """

    gray = False
    """Whether pixels between 0 and 1 have a probability."""

    def log_probability(self, outputs: Tensor, images: Tensor) -> Tensor:
        """In nats: (..., c, h, w) and (..., c, h, w) of 0..1, broadcast, to (...)."""
        return (outputs * images - functional.softplus(outputs)).sum(IMAGE)

    def mean(self, outputs: Tensor) -> Tensor:
        """The expected image, of the outputs' shape, in 0..1."""
        return outputs.sigmoid()


class Gaussian(nn.Module):
    """Each pixel is normally distributed around its output, with one standard deviation for all.

    ``scale`` is that one; with ``learned`` it is where learning begins (Rybkin, Daniilidis
    and Levine 2021). Densities of values in 0..1 may well be above 1, and their logarithms above 0.
    """

    gray = True

    def __init__(self, scale: float, learned: bool) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"scale is a standard deviation, above 0; got {scale}")
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)), requires_grad=learned)

    def log_probability(self, outputs: Tensor, images: Tensor) -> Tensor:
        """In nats: (..., c, h, w) and (..., c, h, w), broadcast, to (...)."""
        distances = ((images - outputs) * torch.exp(-self.log_scale)).square()
        constant = self.log_scale + math.log(2 * math.pi) / 2
        return -(distances / 2 + constant).sum(IMAGE)

    def mean(self, outputs: Tensor) -> Tensor:
        """The expected image: the outputs themselves."""
        return outputs
