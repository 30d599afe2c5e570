"""How high the items that a user wanted are ranked among all that it might want."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Mode, Outputs
from dltrain.metrics.accumulators import AccumulatorMetric, Everything, Sum


class Ranking(AccumulatorMetric):
    """Hit rate, NDCG and recall of the first k items, for each of ``cutoffs``; and MRR.

    They are means over the users who have an item in the split; of users whom training did not
    have, number 0, nobody knows who is who: each pair counts as one. ``rank`` (batch,) of the
    outputs is how many items a pair's user would like better than the pair's item, of all that it
    does not have yet. The hit rate counts users with at least one of their items among the first k,
    recall is the fraction of a user's items that are, and NDCG (Järvelin and Kekäläinen 2002)
    discounts each by the logarithm of its place, over what the best order would give.
    """

    def __init__(self, cutoffs: Sequence[int] = (10,)) -> None:
        self._cutoffs = tuple(cutoffs)
        names = [f"{kind}@{k}" for k in self._cutoffs for kind in ("hit_rate", "ndcg", "recall")]
        self.names = (*names, "mrr")
        self.better: Mapping[str, Mode] = dict.fromkeys(self.names, "max")
        self._all = Everything()
        super().__init__(all=self._all)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep each pair's user and rank."""
        self._all.add(rows, batch["user"], outputs["rank"])

    def compute(self) -> Evaluation:
        """Means over users."""
        users, ranks = self._all.found()
        users = torch.where(users > 0, users, -torch.arange(len(users), device=users.device))
        numbers, ranks = _apart(users.unique(return_inverse=True)[1], ranks)
        ranks = ranks.double()
        owned = numbers.bincount().double()
        first = torch.full_like(owned, torch.inf).scatter_reduce_(0, numbers, ranks, "amin")
        found: dict[str, float] = {}
        for k in self._cutoffs:
            inside = (ranks < k).double()
            hits = torch.zeros_like(owned).index_add_(0, numbers, inside)
            gains = torch.zeros_like(owned).index_add_(0, numbers, inside / (ranks + 2).log2())
            found[f"hit_rate@{k}"] = float((hits > 0).double().mean())
            found[f"ndcg@{k}"] = float((gains / _best_gains(owned, k)).mean())
            found[f"recall@{k}"] = float((hits / owned).mean())
        found["mrr"] = float((1 / (first + 1)).mean())
        return Evaluation(found, weights=dict.fromkeys(found, len(owned)))


class Cold(AccumulatorMetric):
    """The fraction of pairs whose user or item is number 0: training did not have it."""

    names = ("cold_start",)

    def __init__(self) -> None:
        self._cold = Sum()
        super().__init__(cold=self._cold)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Count them."""
        self._cold.add(((batch["user"] == 0) | (batch["item"] == 0)).sum(), len(rows))

    def compute(self) -> Evaluation:
        return Evaluation({"cold_start": float(self._cold.value) / self._cold.examples})


def _apart(users: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs sorted by user and rank, each of a user's ranks at least one more than that before."""
    far = 2 * (int(ranks.max()) + len(ranks) + 1)  # no rank of a user reaches that of the next
    keys = (users * far + ranks).sort().values
    places = torch.arange(len(keys), device=keys.device)
    keys = (keys - places).cummax(0).values + places
    return keys // far, keys % far


def _best_gains(owned: Tensor, k: int) -> Tensor:
    """What the best order gives to users (users,) who have so many items."""
    gains = (1 / (torch.arange(k, device=owned.device).double() + 2).log2()).cumsum(0)
    return gains[owned.long().clamp_max(k) - 1]
