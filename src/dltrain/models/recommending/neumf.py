"""Neural matrix factorization."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_at_least, require_fraction, require_units
from dltrain.models.recommending.recommender import Recommender

AT_ONCE = 1 << 18
"""Pairs that are scored at once."""


class NeuMF(Recommender):
    """A product of vectors and a multi-layer perceptron on others, joined by one layer.

    (He et al. 2017, "Neural collaborative filtering".) ``factors`` are the numbers of a vector of
    the product, ``embedding_size`` of one that the ``hidden`` layers read; ``dropout`` acts on both
    parts before they are joined. ``init_std`` is of the initial vectors.
    """

    def __init__(
        self,
        spec: DataSpec,
        factors: int = 32,
        embedding_size: int = 32,
        hidden: Sequence[int] = (64, 32, 16),
        dropout: float = 0.0,
        init_std: float = 0.01,
    ) -> None:
        super().__init__(spec)
        require_at_least(1, factors=factors, embedding_size=embedding_size)
        require_at_least(0, init_std=init_std)
        require_units(hidden=hidden)
        require_fraction(dropout=dropout)
        sizes = {"user": self.users, "item": self.items}
        self.product = nn.ModuleDict({n: nn.Embedding(s, factors) for n, s in sizes.items()})
        self.read = nn.ModuleDict({n: nn.Embedding(s, embedding_size) for n, s in sizes.items()})
        widths = [2 * embedding_size, *hidden]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU()]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.joined = nn.Linear(factors + widths[-1], 1)
        with torch.no_grad():
            for table in (*self.product.values(), *self.read.values()):
                assert isinstance(table, nn.Embedding)
                # Number 0 is nobody: no vector of its own, and never trained.
                table.weight.normal_(0, init_std)[0] = 0

    def score(self, user: Tensor, item: Tensor) -> Tensor:
        """Of each pair."""
        user = user[:, None].expand_as(item)
        products = self.product["user"](user) * self.product["item"](item)
        read = torch.cat([self.read["user"](user), self.read["item"](item)], -1)
        both = self.dropout(torch.cat([products, self.layers(read)], -1))
        found: Tensor = self.joined(both)[..., 0]
        return found

    def score_all(self, user: Tensor) -> Tensor:
        """Of every pair, some users at a time."""
        items = torch.arange(self.items, device=user.device)
        parts = user.split(max(1, AT_ONCE // self.items))
        return torch.cat([self.score(part, items.expand(len(part), -1)) for part in parts])
