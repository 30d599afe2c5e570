"""Learn what users want from what they have: implicit feedback."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec, Draw, Field, Streams
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Monitor, Optimize, Predictions, Task
from dltrain.errors import require_at_least, require_units
from dltrain.metrics.mean import Mean
from dltrain.metrics.ranking import Cold, Ranking
from dltrain.tasks.recommending import (
    Owned,
    best_items,
    item_field,
    penalized,
    require_recommender,
    tell_pairs,
)

SCORE = Field((), "number")


class RankItems(Task):
    """A user's item against ``negatives`` others that are drawn, alike likely; None: against all.

    ``bpr``: each of them is to score lower (Rendle et al. 2009); ``softmax``: the item is to be
    told from all of them by cross-entropy (a sampled softmax, with a uniform proposal; or a whole
    one). What a user has may be among them, for it is rare among many items. In an evaluation an
    item is ranked among all that its user does not have in training, nor, in a test, in validation;
    ``cutoffs`` are the numbers of first items that are looked at.

    Raises ValueError for a network that scores no users and items.
    """

    monitor = Monitor("ndcg@10", "max")
    replayable = True
    needs_target = False

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        loss: Literal["bpr", "softmax"] = "bpr",
        negatives: int | None = 10,
        cutoffs: Sequence[int] = (10,),
    ) -> None:
        super().__init__()
        if negatives is not None:
            require_at_least(1, negatives=negatives)
        require_units(cutoffs=cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs is empty")
        self.model = require_recommender(model, "ranking")
        self.monitor = Monitor(f"ndcg@{cutoffs[0]}", "max")
        self.spec, self.loss, self.negatives = spec, loss, negatives
        self.cutoffs = tuple(cutoffs)
        self.trained, self.known = Owned(), Owned()
        self._final = False

    def opened(self, streams: Streams) -> None:
        """Count who has what."""
        self.trained.fill(streams, ["train"])
        self.known.fill(streams, ["train", "validation"])
        tell_pairs(self.model, streams)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Draw items, and minimize the mean loss of the batch."""
        user, item = batch["user"], batch["item"][:, None]
        if self.negatives is None:
            scores = self.model.score_all(user)
            loss = self._losses(scores.gather(1, item), scores[:, 1:]).mean()
        else:
            shape = (len(user), self.negatives)
            drawn = torch.randint(1, self.model.items, shape, device=user.device)
            scores = self.model.score(user, torch.cat([item, drawn], 1))
            loss = self._losses(scores[:, :1], scores[:, 1:]).mean()
        optimize(penalized(self.model, loss, batch))
        return {"loss": loss.detach()}

    def forward(self, batch: Batch) -> Outputs:
        """``score`` (batch,) of each pair."""
        return {"score": self.model.score(batch["user"], batch["item"][:, None])[:, 0]}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """The rank of each pair's item, and its loss as in training; in full precision."""
        with torch.autocast(
            batch["user"].device.type, enabled=False
        ):  # or many scores are the same
            scores = self.model.score_all(batch["user"]).float()
        others = scores[:, 1:]
        if self.negatives is not None:
            shape = (len(scores), self.negatives)
            drawn = torch.randint(1, self.model.items, shape, generator=draw.generator)
            others = scores.gather(1, drawn.to(scores.device))
        losses = self._losses(scores.gather(1, batch["item"][:, None]), others)
        return {"loss": losses} | self.ranks(scores, batch, draw.final)

    def ranks(self, scores: Tensor, batch: Batch, final: bool) -> Outputs:
        """``rank`` (batch,) of each pair's item by ``scores`` (batch, items), from 0.

        Half of the items with the same score are before it. One that training did not have is
        behind all others.
        """
        owned = (self.known if final else self.trained).mask(batch["user"], scores.shape[1])
        owned[:, 0] = True
        own = scores.gather(1, batch["item"][:, None])
        others = ~owned.scatter(1, batch["item"][:, None], value=True)
        # Not >: nothing is known of a score that is no number.
        before = (~(scores <= own) & others).sum(1) + ((scores == own) & others).sum(1) // 2
        return {"rank": torch.where(batch["item"] == 0, others.sum(1), before)}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Loss, hit rate, NDCG, recall, MRR, and how much of it is a cold start."""
        return [Mean("loss", _total), Ranking(self.cutoffs), Cold()]

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``score`` (batch,) of each pair."""
        return Predictions(self.forward(batch), {"score": SCORE})

    @torch.no_grad()
    def recommend(self, user: int, count: int, without: Sequence[int] = ()) -> Predictions:
        """The items with the highest scores."""
        device = next(self.parameters()).device
        scores = self.model.score_all(torch.tensor([user], device=device))[0]
        items = best_items(scores, count, without)
        fields = {"item": item_field(self.spec), "score": SCORE}
        return Predictions({"item": items, "score": scores[items]}, fields)

    def _losses(self, own: Tensor, others: Tensor) -> Tensor:
        """Of each pair (batch,), by its score (batch, 1) and that of ``others`` (batch, n)."""
        if self.loss == "bpr":
            return -functional.logsigmoid(own - others).mean(1)
        # The item itself may be among all of them, and is counted once.
        all_of_them = others if self.negatives is None else torch.cat([own, others], 1)
        return all_of_them.logsumexp(1) - own[:, 0]


def _total(outputs: Outputs, batch: Batch) -> Tensor:
    return outputs["loss"].sum()
