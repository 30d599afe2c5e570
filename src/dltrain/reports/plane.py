"""Points in a plane, and the grid over it at which a network is asked. No matplotlib here."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

MARGIN = 0.15


class Plane(NamedTuple):
    """A rectangle around points, with a margin, cut into ``side`` by ``side`` places."""

    left: float
    right: float
    bottom: float
    top: float
    side: int

    @classmethod
    def around(cls, points: Tensor, side: int) -> Plane:
        """The rectangle around ``points`` (n, 2); one without width becomes two units wide."""
        low, high = points.double().amin(0), points.double().amax(0)
        margin = torch.where(high > low, MARGIN * (high - low), 1.0)
        (left, bottom), (right, top) = (low - margin).tolist(), (high + margin).tolist()
        return cls(left, right, bottom, top, side)

    def grid(self) -> Tensor:
        """The places (side * side, 2): row by row from the bottom, each from the left."""
        x = torch.linspace(self.left, self.right, self.side)
        y = torch.linspace(self.bottom, self.top, self.side)
        return torch.cartesian_prod(y, x).flip(1)
