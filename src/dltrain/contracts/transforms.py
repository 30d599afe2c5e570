"""What a network may learn in the place of a number, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Transform:
    """``apply`` and its inverse ``undo``, element by element, of numbers above ``lowest``."""

    apply: Callable[[Tensor], Tensor]
    undo: Callable[[Tensor], Tensor]
    lowest: float


TRANSFORMS = {
    "log": Transform(torch.log, torch.exp, 0.0),
    "log1p": Transform(torch.log1p, torch.expm1, -1.0),
}
"""By the names that :class:`~dltrain.contracts.data.Field` gives them."""
