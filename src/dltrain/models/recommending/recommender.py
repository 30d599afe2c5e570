"""What a recommender is asked: some pairs, or a user and all items."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec, Field

MARGIN = 1 / 8
"""By which part of their range ratings may be missed: a sigmoid never reaches its ends."""


class Recommender(nn.Module, ABC):
    """Scores a user (batch,) and an item (batch,); number 0 is one that training did not have.

    Called, it says the rating (batch, 1). Where the data tells which are the least and the
    greatest, the score goes through a sigmoid that spans a little more (Howard and
    Gugger 2020, chapter 8), and what is used is cut to them. Ratings are in stds from their mean,
    where the data tells these.

    Raises ValueError for data that has no user and item.
    """

    def __init__(self, spec: DataSpec) -> None:
        super().__init__()
        fields = spec.of("input")
        if [field.kind for field in fields] != ["category"] * 2:
            kinds = ", ".join(field.kind for field in fields) or "nothing"
            raise ValueError(f"{type(self).__name__} reads a user and an item; got {kinds}")
        self.users, self.items = (field.size or 1 for field in fields)
        targets = spec.of("target")
        self._range = _range(targets[0]) if targets else None

    @abstractmethod
    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """How much users (batch,) would like items (batch, n): (batch, n), of any size."""

    @abstractmethod
    def score_all(self, user: Tensor) -> Tensor:
        """How much users (batch,) would like each item: (batch, items)."""

    def rated_by(self, user: Tensor, item: Tensor) -> None:
        """Learn who has rated what in training: pairs (pairs,), before the first step."""
        return None

    def penalty(self, user: Tensor, item: Tensor) -> Tensor | None:
        """What is added to the mean loss of pairs (batch,), 0-d; None: nothing.

        For penalties of what a batch uses alone: a regularizer sees all weights in every step.
        """
        return None

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """The rating (batch, 1)."""
        scores = self.score(user, item[:, None])
        if self._range is None:
            return scores
        low, high, middle = self._range
        spread = high - low
        ends = (low - MARGIN * spread, spread * (1 + 2 * MARGIN))
        found = torch.sigmoid(scores + middle) * ends[1] + ends[0]
        return found if self.training else found.clamp(low, high)


def _range(target: Field) -> tuple[float, float, float] | None:
    """The least and the greatest in stds from the mean, and the score that gives the mean."""
    if not target.low or target.low == target.high:
        return None
    mean, std = (*target.mean, 0.0)[0], (*target.std, 1.0)[0]
    low, high = ((bound - mean) / std for bound in (target.low[0], target.high[0]))
    margin = MARGIN * (high - low)
    middle = (0.0 - low + margin) / (high - low + 2 * margin)
    return low, high, math.log(middle / (1 - middle))
