"""What the simplest recommenders make of the same ratings: a result is good only beside them."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping

import torch
from torch import Tensor

from dltrain.contracts.data import Stream, Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Probe, Setup, View
from dltrain.contracts.task import RanksItems, Task
from dltrain.errors import require_at_least

logger = logging.getLogger(__name__)

ROUNDS = 10
TITLES = {
    "mean": "the mean",
    "biases": "biases alone",
    "popular": "the most popular",
    "neighbors": "the nearest items",
}
MOST_ITEMS = 20_000
"""Beyond which there are no nearest items: each is compared with each."""


class RecommenderBaseline(Probe):
    """Fits simple recommenders to the training ratings, and tells how they do on the test split.

    Of ratings: their mean, and the biases of users and items, shrunk by ``shrink_users`` and
    ``shrink_items`` ratings of the mean (Koren 2010). Of rankings: the items with the most users,
    and those that are nearest to what the user has: the sum over the user's items of cosines
    between items, as the users see them who have them, of each item's ``neighbors`` nearest ones
    (Deshpande and Karypis 2004). Where there is no test split, it is the validation split. It
    happens once, as the run ends; a warning says where the network is no better.
    """

    def __init__(
        self, shrink_users: float = 15, shrink_items: float = 10, neighbors: int = 100
    ) -> None:
        require_at_least(0, shrink_users=shrink_users, shrink_items=shrink_items)
        require_at_least(1, neighbors=neighbors)
        self.shrink = (shrink_users, shrink_items)
        self.neighbors = neighbors
        self._split, self._measure = "test", ""
        self._seconds = 0.0

    def check(self, setup: Setup) -> None:
        """See what is measured."""
        self._split = "test" if "test" in setup.splits else "validation"
        inputs = [field.kind for field in setup.spec.of("input")]
        wanted = [name for name in setup.metrics if name == "rmse" or name.startswith("ndcg@")]
        if inputs == ["category"] * 2 and wanted:
            self._measure = wanted[0]

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """Fit, and measure, once the run ends."""
        ends = view.progress.step >= view.progress.max_steps or bool(view.stop_reason)
        if not self._measure or split != self._split or not ends:
            return Evaluation()
        started = time.perf_counter()
        columns = _columns(streams["train"])
        sizes = [int(columns[name].max()) + 1 for name in ("user", "item")]
        if isinstance(task, RanksItems):
            found = self._rankings(task, columns, sizes, streams[split], split == "test")
        else:
            found = self._ratings(columns, sizes, streams[split])
        self._seconds = time.perf_counter() - started
        return Evaluation(found)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Compare."""
        found, measure = evaluation.scalars, self._measure
        if not measure or split != self._split:
            return
        told = {
            title: found[name]
            for key, title in TITLES.items()
            if (name := f"baseline_{key}_{measure}") in found
        }
        if not told:
            return
        own = found[measure]
        shown = ", ".join(f"{title} {value:.4g}" for title, value in told.items())
        logger.info(
            f"{split} {measure} of {shown}; of this network {own:.4g}. ({self._seconds:.1f} s.)"
        )
        sign = 1 if measure == "rmse" else -1
        unbeaten = [title for title, value in told.items() if sign * own >= sign * value]
        if unbeaten:
            logger.warning(
                f"on the {split} split this network is no better than {' and '.join(unbeaten)}."
            )

    def _ratings(
        self, train: Mapping[str, Tensor], sizes: list[int], stream: Stream
    ) -> dict[str, float]:
        values = train["target"].double().flatten()
        mean = values.mean()
        biases = [values.new_zeros(size) for size in sizes]
        numbers = [train["user"], train["item"]]
        counts = [n.bincount(minlength=s) for n, s in zip(numbers, sizes, strict=True)]
        for _ in range(ROUNDS):
            for side in (1, 0):
                rest = values - mean - biases[1 - side][numbers[1 - side]]
                sums = torch.zeros_like(biases[side]).index_add_(0, numbers[side], rest)
                # Number 0 has no rating: 0 / 0 without shrinking.
                biases[side] = (sums / (counts[side] + self.shrink[side])).nan_to_num(0.0)
        errors: dict[str, list[Tensor]] = {"mean": [], "biases": []}
        for batch in stream.plain():
            target = batch["target"].double().flatten()
            both = biases[0][batch["user"]] + biases[1][batch["item"]]
            errors["mean"].append(target - mean)
            errors["biases"].append(target - mean - both)
        found = {}
        for name, parts in errors.items():
            whole = torch.cat(parts)
            found[f"baseline_{name}_rmse"] = math.sqrt(float(whole.square().mean()))
            found[f"baseline_{name}_mae"] = float(whole.abs().mean())
        return found

    def _rankings(
        self, task: RanksItems, train: Mapping[str, Tensor], sizes: list[int], stream: Stream,
        final: bool,
    ) -> dict[str, float]:  # fmt: skip
        assert isinstance(task, Task)
        users, items = train["user"], train["item"]
        popular = items.bincount(minlength=sizes[1]).float()
        near = _nearest(users, items, sizes, self.neighbors) if sizes[1] <= MOST_ITEMS else None
        if near is None:
            logger.info(f"{sizes[1]:,} items are too many to compare each with each.")
        names = ["popular", *(["neighbors"] if near is not None else [])]
        metrics = {
            name: [one for one in task.metrics(final) if self._measure in one.names]
            for name in names
        }
        owned = torch.zeros(sizes, device=users.device)
        owned[users, items] = 1
        for position, batch in enumerate(stream.plain()):
            rows, user = stream.rows(0, position), batch["user"]
            scores = {"popular": popular.expand(len(user), -1)}
            if near is not None:
                scores["neighbors"] = owned[user] @ near
            for name, metric in metrics.items():
                for one in metric:
                    one.update(task.ranks(scores[name], batch, final), batch, rows)
        return {
            f"baseline_{name}_{measure}": value
            for name, metric in metrics.items()
            for one in metric
            for measure, value in one.compute().scalars.items()
        }


def _columns(stream: Stream) -> dict[str, Tensor]:
    batches = list(stream.plain())
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def _nearest(users: Tensor, items: Tensor, sizes: list[int], count: int) -> Tensor:
    """Cosines (items, items) of each item with its nearest ones; 0 of all others, and itself."""
    table = torch.zeros(sizes, device=users.device)
    table[users, items] = 1
    norms = table.norm(dim=0).clamp_min(1)
    cosines = (table.T @ table) / (norms[:, None] * norms)
    cosines.fill_diagonal_(0)
    best = cosines.topk(min(count, sizes[1]), dim=1)
    return torch.zeros_like(cosines).scatter_(1, best.indices, best.values)
