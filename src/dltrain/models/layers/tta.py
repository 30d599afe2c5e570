"""Test-time augmentation: one prediction from several versions of an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional


def mean_over_views(
    predict: Callable[[Tensor], Tensor], images: Tensor, mirrored: bool, shifted: int
) -> Tensor:
    """The mean prediction for versions of ``images`` (batch, c, h, w); first dimension kept.

    ``mirrored``: half of the weight goes to the mirror image. ``shifted``: half of it goes to the
    image shifted by so many pixels up and left, and down and right, its border repeated (Jordan
    2024, section 3.5).
    """
    return torch.stack(
        [weight * predict(v) for weight, v in _views(images, mirrored, shifted)]
    ).sum(0)


def _views(images: Tensor, mirrored: bool, shifted: int) -> Iterator[tuple[float, Tensor]]:
    """Versions of the images and their weights, which sum to 1."""
    for weight, view in _moved(images, shifted):
        if mirrored:
            yield weight / 2, view
            yield weight / 2, view.flip(3)
        else:
            yield weight, view


def _moved(images: Tensor, by: int) -> Iterator[tuple[float, Tensor]]:
    if not by:
        yield 1.0, images
        return
    yield 0.5, images
    height, width = images.shape[-2:]
    padded = functional.pad(images, (by,) * 4, mode="replicate")
    for start in (0, 2 * by):
        yield 0.25, padded[..., start : start + height, start : start + width]
