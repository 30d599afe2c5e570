"""Penalties on weights. Biases and norm scales are never among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dltrain.contracts.run import Regularizer
from dltrain.errors import require_at_least


class L2(Regularizer):
    """Add ``strength/2 * ||w||^2`` to the loss: ``strength`` is a torch ``weight_decay``."""

    def __init__(self, strength: float = 1e-4) -> None:
        require_at_least(0, strength=strength)
        self.weight_decay = strength


class L1(Regularizer):
    """Add ``strength * ||w||_1`` to the loss, which drives weights to zero."""

    def __init__(self, strength: float = 1e-5) -> None:
        require_at_least(0, strength=strength)
        self.strength = strength

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        """Sum the absolute weights."""
        return self.strength * torch.stack([w.abs().sum() for w in weights]).sum()


class ElasticNet(L1):
    """Both: ``l1 * ||w||_1 + l2/2 * ||w||^2`` (Zou and Hastie 2005)."""

    def __init__(self, l1: float = 1e-5, l2: float = 1e-4) -> None:
        require_at_least(0, l1=l1, l2=l2)
        super().__init__(l1)
        self.weight_decay = l2
