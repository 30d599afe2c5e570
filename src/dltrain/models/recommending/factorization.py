"""Matrix factorization, with biases and with what a user has rated at all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_at_least, require_fraction
from dltrain.models.recommending.recommender import Recommender


class MatrixFactorization(Recommender):
    """Vectors of ``factors`` numbers of users and items, whose product is the score, and biases.

    (Koren, Bell and Volinsky 2009.) With ``implicit``, a user's vector is a vector of its own and
    the sum of one of each item that it has rated, whatever the value, over the root of their
    number: SVD++ (Koren 2008). ``dropout`` acts on users' vectors, and so on the products of two
    numbers. ``init_std`` is of the initial vectors. ``sparse``: their gradients have the rows of a
    batch alone, which is faster where most users and items are in no batch; of optimizers SGD and
    Adagrad take these, without weight decay.

    ``l2`` is the strength of L2 on the vectors and the biases of each pair of a batch (Koren et al.
    2009), and with ``implicit`` on the sum of what its user has rated: who has many ratings is held
    back as often. It costs rows, not tables; weight decay acts on every row in every step.

    Number 0 has no vector and no bias, and is never trained: of a user or an item that training
    did not have, the other's bias decides.
    """

    def __init__(
        self,
        spec: DataSpec,
        factors: int = 50,
        implicit: bool = False,
        dropout: float = 0.5,
        init_std: float = 0.1,
        sparse: bool = False,
        l2: float = 0.1,
    ) -> None:
        super().__init__(spec)
        require_at_least(1, factors=factors)
        require_at_least(0, init_std=init_std, l2=l2)
        self.l2 = l2
        require_fraction(dropout=dropout)
        if implicit and sparse:
            raise ValueError("sparse: with implicit=true every item's vector has a gradient")
        self.user_vectors = _table(self.users, factors, init_std, sparse)
        self.item_vectors = _table(self.items, factors, init_std, sparse)
        self.user_biases = nn.Parameter(torch.zeros(self.users))
        self.item_biases = nn.Parameter(torch.zeros(self.items))
        self.dropout = nn.Dropout(dropout)
        self.rated: Rated | None = None
        if implicit:
            pairs = sum(spec.of("input")[0].counts or (0,))
            self.rated = Rated(self.users, self.items, pairs)
            self.rated_vectors = _table(self.items, factors, init_std, sparse)

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """The products and the biases."""
        products = (self._of_users(user)[:, None] * self.item_vectors(item)).sum(-1)
        return products + self.user_biases[user][:, None] + self.item_biases[item]

    def score_all(self, user: Tensor) -> Tensor:
        """The same for every item, as one product of matrices."""
        biases = self.user_biases[user][:, None] + self.item_biases
        return self._of_users(user) @ self.item_vectors.weight.T + biases

    def penalty(self, user: Tensor, item: Tensor) -> Tensor | None:
        """``l2`` times the mean over pairs of the squares of all that they use."""
        if not self.l2:
            return None
        rows = [self.user_vectors(user), self.item_vectors(item)]
        if self.rated is not None:
            rows.append(self.rated(self.rated_vectors.weight)[user])
        biases = self.user_biases[user].square() + self.item_biases[item].square()
        squares = [row.square().sum(1) for row in rows]
        return self.l2 * torch.stack([*squares, biases]).sum(0).mean()

    def rated_by(self, user: Tensor, item: Tensor) -> None:
        if self.rated is not None:
            self.rated.fill(user, item)

    def _of_users(self, user: Tensor) -> Tensor:
        found: Tensor = self.user_vectors(user)
        if self.rated is not None:
            found = found + self.rated(self.rated_vectors.weight)[user]
        dropped: Tensor = self.dropout(found)
        return dropped


class Rated(nn.Module):
    """Who has rated what: sums vectors of items into one a user, over the root of their number.

    ``pairs`` is how many there are. What is missing of them is of user 0 and item 0.
    """

    items: Tensor
    item_starts: Tensor
    users: Tensor
    user_starts: Tensor
    weights: Tensor

    def __init__(self, users: int, items: int, pairs: int) -> None:
        super().__init__()
        self._sizes = (users, items)
        empty = torch.zeros(pairs, dtype=torch.int32)
        for name in ("items", "users"):
            self.register_buffer(name, empty.clone())
        for name, size in (("user_starts", users), ("item_starts", items)):
            starts = torch.full((size + 1,), pairs, dtype=torch.int32)
            starts[0] = 0
            self.register_buffer(name, starts)
        self.register_buffer("weights", torch.ones(users))

    def fill(self, user: Tensor, item: Tensor) -> None:
        """Keep pairs (pairs,), of which there are at most so many."""
        missing = len(self.items) - len(user)
        both = [torch.cat([side.new_zeros(missing), side]) for side in (user, item)]
        for (name, other), size in zip(
            (("user", "item"), ("item", "user")), self._sizes, strict=True
        ):
            own, others = both if name == "user" else both[::-1]
            order = own.argsort(stable=True)
            counts = own.bincount(minlength=size)
            starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
            getattr(self, f"{other}s").copy_(others[order])
            getattr(self, f"{name}_starts").copy_(starts)
            if name == "user":
                self.weights.copy_(counts.clamp_min(1).float().rsqrt())

    def forward(self, vectors: Tensor) -> Tensor:
        """From ``vectors`` (items, factors) to (users, factors)."""
        sums = _Sums.apply(
            vectors, self.items, self.user_starts, self.users, self.item_starts, self.weights
        )
        assert isinstance(sums, Tensor)
        return sums


class _Sums(torch.autograd.Function):
    """Sums of rows, whose gradient is a sum of rows, too: ten times as fast as scattering it."""

    @staticmethod
    def forward(
        ctx: Any, vectors: Tensor, items: Tensor, user_starts: Tensor, users: Tensor,
        item_starts: Tensor, weights: Tensor,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(users, item_starts, weights)
        found = functional.embedding_bag(
            items, vectors, user_starts, mode="sum", include_last_offset=True
        )
        return found * weights[:, None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        users, item_starts, weights = ctx.saved_tensors
        (gradient,) = gradients
        found = functional.embedding_bag(
            users, gradient * weights[:, None], item_starts, mode="sum", include_last_offset=True
        )
        found[0] = 0  # nobody's vector
        return found, None, None, None, None, None


def _table(size: int, factors: int, std: float, sparse: bool) -> nn.Embedding:
    table = nn.Embedding(size, factors, padding_idx=0, sparse=sparse)
    with torch.no_grad():
        table.weight.normal_(0, std)[0] = 0
    return table
