"""What tasks of users and items have in common: who has what, and what to recommend."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Field, Streams
from dltrain.errors import UserError
from dltrain.models.recommending.recommender import Recommender


class Owned(nn.Module):
    """Which items each user has, by pairs (pairs,) of numbers; nobody has any before it is told.

    It is counted whenever the data is open, and is in no checkpoint.
    """

    users: Tensor
    items: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("users", "items"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.long), persistent=False)

    def fill(self, streams: Streams, splits: Sequence[str]) -> None:
        """Take the pairs of ``splits``, as far as there are such."""
        batches = [b for name in splits if name in streams for b in streams[name].plain()]
        users, items = (torch.cat([batch[name] for batch in batches]) for name in ("user", "item"))
        known = users > 0  # what one unknown user has, the others have not
        self.users, self.items = users[known], items[known]

    def mask(self, user: Tensor, items: int) -> Tensor:
        """Which of so many items users (batch,) have: (batch, items), bool.

        Raises :class:`UserError` where nobody has told.
        """
        if not len(self.users):
            raise UserError(
                "a ranking leaves out what users have, which is not known here: such a run is "
                "evaluated on its own data alone."
            )
        chosen = torch.zeros(int(user.max()) + 1, dtype=torch.bool, device=user.device)
        chosen[user] = True
        few = self.users < len(chosen)
        mine = few & chosen[self.users.where(few, 0)]
        table = torch.zeros(len(chosen), items, dtype=torch.bool, device=user.device)
        table[self.users[mine], self.items[mine]] = True
        return table[user]


def require_recommender(model: nn.Module, task: str) -> Recommender:
    """``model``. Raises ValueError where it scores no users and items."""
    if not isinstance(model, Recommender):
        raise ValueError(
            f"{task} needs a network that scores users and items, such as matrix_factorization or "
            f"neumf; {type(model).__name__} does not"
        )
    return model


def tell_pairs(model: Recommender, streams: Streams) -> None:
    """Tell a network who has rated what in training."""
    batches = list(streams["train"].plain())
    model.rated_by(*(torch.cat([batch[name] for batch in batches]) for name in ("user", "item")))


def penalized(model: Recommender, loss: Tensor, batch: Batch) -> Tensor:
    """The mean loss of a batch of pairs, and what the network adds to it."""
    penalty = model.penalty(batch["user"], batch["item"])
    return loss if penalty is None else loss + penalty


def best_items(scores: Tensor, count: int, without: Sequence[int]) -> Tensor:
    """The ``count`` best of ``scores`` (items,), best first: not 0, and none of ``without``."""
    kept = torch.ones(len(scores), dtype=torch.bool, device=scores.device)
    kept[[0, *(number for number in without if number < len(scores))]] = False
    places = kept.nonzero()[:, 0]
    return places[scores[places].sort(descending=True, stable=True).indices[:count]]


def item_field(spec: DataSpec) -> Field:
    """Items as an answer names them: as classes."""
    items = spec.fields["item"]
    return Field((), "class", "other", items.size, items.names)
