"""Parts of images taken out, and images mixed with one another, targets and all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.data import Batch


class Beta:
    """Draws from the symmetrical Beta(``strength``, ``strength``), given uniform numbers.

    torch's own draws take no generator. The inverse of the distribution function is tabulated,
    and read linearly in between.
    """

    STEPS = 1024

    def __init__(self, strength: float) -> None:
        from scipy.special import betaincinv  # type: ignore[import-untyped]

        levels = torch.linspace(0, 1, self.STEPS + 1, dtype=torch.float64)
        self._quantiles = torch.from_numpy(betaincinv(strength, strength, levels.numpy())).float()

    def __call__(self, uniform: Tensor) -> Tensor:
        """Turn numbers uniform in 0..1 into draws of the same shape."""
        # Moved once: a copy at every batch would have the device waited for.
        quantiles = self._quantiles = self._quantiles.to(uniform.device)
        position = uniform * self.STEPS
        low = position.long().clamp(max=self.STEPS - 1)
        return torch.lerp(quantiles[low], quantiles[low + 1], position - low)


def boxes(x: Tensor, y: Tensor, wide: Tensor, high: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (batch, 1, h, w) of 1 within a box and 0 outside, cut off at the border.

    The center ``x``, ``y`` is in 0..1 of each side, ``wide`` and ``high`` in pixels; all (batch,).
    """
    height, width = size
    columns, rows = torch.arange(width, device=x.device), torch.arange(height, device=x.device)
    left = ((x * width).floor() - (wide / 2).floor())[:, None]
    top = ((y * height).floor() - (high / 2).floor())[:, None]
    within_columns = (columns >= left) & (columns < left + wide[:, None])
    within_rows = (rows >= top) & (rows < top + high[:, None])
    return (within_rows[:, :, None] & within_columns[:, None, :])[:, None].float()


def mix(batch: Batch, weights: Tensor, images: Sequence[str], target: str, classes: int) -> Batch:
    """Each image, times its weight, plus its neighbor's rest; and the targets alike.

    ``images`` and ``target`` name the columns.

    ``weights`` (batch, 1, h, w) say of each pixel how much is the image's own; their mean is its
    own fraction of the target. Classes (batch,) become probabilities (batch, classes). The
    neighbor is the next image of the batch, whose order is random already.
    """
    fraction = weights.mean((1, 2, 3))[:, None]
    chances = functional.one_hot(batch[target], classes).to(weights.dtype)
    mixed = {name: torch.lerp(batch[name].roll(1, 0), batch[name], weights) for name in images}
    return batch | mixed | {target: torch.lerp(chances.roll(1, 0), chances, fraction)}
