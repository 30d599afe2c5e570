"""Predict how a user rates an item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Streams
from dltrain.contracts.metric import Metric
from dltrain.contracts.task import Monitor, Predictions
from dltrain.metrics.ranking import Cold
from dltrain.models.recommending.recommender import Recommender
from dltrain.tasks.losses.regression import NumberLoss
from dltrain.tasks.recommending import (
    best_items,
    item_field,
    penalized,
    require_recommender,
    tell_pairs,
)
from dltrain.tasks.regression import Regression


class Rating(Regression):
    """The value of a user and an item, as :class:`~dltrain.tasks.regression.Regression` has it.

    ``cold_start`` is the fraction of a split whose user or item training did not have.

    Raises ValueError for a network that scores no users and items.
    """

    monitor = Monitor("rmse", "min")

    def __init__(self, model: nn.Module, spec: DataSpec, loss: NumberLoss | None = None) -> None:
        super().__init__(require_recommender(model, "rating"), spec, loss)

    def opened(self, streams: Streams) -> None:
        """Tell the network who has rated what."""
        tell_pairs(self._recommender, streams)

    def _objective(self, loss: Tensor, batch: Batch) -> Tensor:
        return penalized(self._recommender, loss, batch)

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Those of a regression, and how much of it is a cold start."""
        return [*super().metrics(final), Cold()]

    @torch.no_grad()
    def recommend(self, user: int, count: int, without: Sequence[int] = ()) -> Predictions:
        """The items with the highest scores, and the ratings that are predicted of them."""
        number = torch.tensor([user], device=next(self.parameters()).device)
        scores = self._recommender.score_all(number)[0]
        items = best_items(scores, count, without)
        ratings = self._predictions(number.expand(len(items)), items)
        fields = {"item": item_field(self.spec), "rating": replace(self.spec.target, role="other")}
        return Predictions({"item": items, "rating": ratings}, fields)

    @property
    def _recommender(self) -> Recommender:
        assert isinstance(self.model, Recommender)
        return self.model
