"""What feature vectors are filled and scaled by, learned from the training rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float64).eps


@dataclass(frozen=True)
class Scaling:
    """What feature vectors become, by what the training rows taught; each a number a feature.

    ``fill`` takes the place of missing values. Empty: as they are.
    """

    fill: Sequence[float] = ()
    mean: Sequence[float] = ()
    std: Sequence[float] = ()

    def part(self, low: int, high: int) -> Scaling:
        """That of the features from ``low`` to below ``high``."""
        return Scaling(self.fill[low:high], self.mean[low:high], self.std[low:high])

    def __call__(self, inputs: Tensor) -> Tensor:
        """Vectors (rows, features), float64 with NaN, as float32."""
        if self.fill:
            fill = torch.tensor(self.fill, dtype=inputs.dtype)
            inputs = inputs.where(~inputs.isnan(), fill)
        if self.std:
            mean, std = (torch.tensor(v, dtype=inputs.dtype) for v in (self.mean, self.std))
            inputs = (inputs - mean) / std
        return inputs.float()


def learn_scaling(
    chunks: Callable[[], Iterable[Tensor]], unscaled: Sequence[int], standardize: bool
) -> Scaling:
    """Mean and standard std of each feature, with missing values at the mean.

    ``chunks`` are the training rows (n, features), float64, in one pass over all each time it is
    called. The mean is NaN where a feature has no value in any.
    """
    total: Tensor | float = 0.0
    known: Tensor | float = 0.0
    count = 0
    for chunk in chunks():
        total = total + chunk.nansum(0)
        known = known + (~chunk.isnan()).sum(0)
        count += len(chunk)
    assert isinstance(total, Tensor)
    mean = total / known
    if not standardize:
        return Scaling(mean.tolist())
    squares = torch.zeros_like(mean)
    for chunk in chunks():
        squares += (chunk - mean).nan_to_num(0).square().sum(0)
    scaled = torch.ones_like(mean, dtype=torch.bool)
    scaled[list(unscaled)] = False
    # A feature that never changes says nothing: it becomes 0 instead of 0/0, and a value that is a
    # little off later stays a little off.
    variance = squares / count
    scaled_down = scaled & ~is_constant(variance, mean, count)
    std = torch.where(scaled_down, variance.sqrt(), 1.0)
    offset = torch.where(scaled, mean, 0.0)
    return Scaling(mean.tolist(), offset.tolist(), std.tolist())


def is_constant(variance: Tensor, mean: Tensor, count: int) -> Tensor:
    """Where a variance is within the rounding errors of computing it.

    The bound is Chan, Golub and LeVeque's (1983, eq. 4.4), by which scikit-learn's StandardScaler
    tells constants, too.
    """
    return variance <= count * EPSILON * variance + (count * mean * EPSILON).square()
