"""What two images differ by in content and in style (Gatys et al. 2016)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def gram(features: Tensor) -> Tensor:
    """(n, c, c): how channels (n, c, h, w) go together, a mean over all places."""
    flat = features.flatten(2)
    return flat @ flat.mT / flat.shape[2]


def style_loss(
    features: Mapping[str, Tensor], grams: Mapping[str, Tensor], weights: Mapping[str, float]
) -> Tensor:
    """(n,): a quarter of the mean squared difference of Gram matrices from those of a style.

    ``features`` (n, c, h, w) and ``grams`` (1, c, c) by layer; ``weights`` names the layers.
    """
    parts = [
        weight * (gram(features[name]) - grams[name]).square().mean((1, 2)) / 4
        for name, weight in weights.items()
    ]
    return torch.stack(parts).sum(0)


def content_loss(
    features: Mapping[str, Tensor], targets: Mapping[str, Tensor], weights: Mapping[str, float]
) -> Tensor:
    """(n,): half the mean squared difference of the features (n, c, h, w) of the layers."""
    parts = [
        weight * (features[name] - targets[name]).square().mean((1, 2, 3)) / 2
        for name, weight in weights.items()
    ]
    return torch.stack(parts).sum(0)


def total_variation(images: Tensor) -> Tensor:
    """(n,): the mean absolute difference of neighboring pixels (n, c, h, w)."""
    sides = (1, 2, 3)
    return images.diff(dim=2).abs().mean(sides) + images.diff(dim=3).abs().mean(sides)


def with_colors_of(style: Tensor, content: Tensor) -> Tensor:
    """``style`` (1, 3, h, w) with the mean and covariance of the colors of ``content``.

    By the square roots of both covariances (Gatys et al. 2017, section 5), within 0..1.
    """
    pixels, wanted = style[0].flatten(1), content[0].flatten(1)
    change = _root(wanted) @ torch.linalg.inv(_root(pixels))
    moved = change @ (pixels - pixels.mean(1, keepdim=True)) + wanted.mean(1, keepdim=True)
    return moved.view_as(style).clamp(0, 1)


def _root(pixels: Tensor) -> Tensor:
    """The symmetric square root of the covariance of colors (3, n), none of them alone."""
    centered = pixels - pixels.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(centered @ centered.T / pixels.shape[1])
    return (vectors * values.clamp_min(1e-6).sqrt()) @ vectors.T
