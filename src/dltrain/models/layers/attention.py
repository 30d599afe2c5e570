"""How a decoder looks at what was read: additive and multiplicative attention."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

Attention = Literal["bahdanau", "luong"]


class Attend(nn.Module, ABC):
    """Weights of what was read, states (rows, time, width), for each of some queries."""

    @abstractmethod
    def keys(self, states: Tensor) -> Tensor:
        """What is the same for all queries (rows, time, size)."""

    @abstractmethod
    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(rows, steps, time) of queries (rows, steps, query width)."""

    def forward(
        self, queries: Tensor, keys: Tensor, states: Tensor, real: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Means of the states by weight (rows, steps, width), and the weights (rows, steps, time).

        ``real`` (rows, time) is false where a state is padding, which has weight 0.
        """
        scores = self.scores(queries, keys).float().masked_fill(~real[:, None], -torch.inf)
        weights = scores.softmax(2)
        return torch.bmm(weights.to(states.dtype), states), weights


class Additive(Attend):
    """``v . tanh(W q + U s)`` (Bahdanau, Cho and Bengio 2015, appendix A.1.2)."""

    def __init__(self, query: int, width: int, size: int) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(query, size), nn.Linear(width, size, bias=False)
        self.score = nn.Linear(size, 1, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        return self.key(states)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Memory goes with steps times time times size."""
        return self.score((self.query(queries)[:, :, None] + keys[:, None]).tanh()).squeeze(3)


class Multiplicative(Attend):
    """``q . W s`` (Luong, Pham and Manning 2015, equation 8, "general")."""

    def __init__(self, query: int, width: int) -> None:
        super().__init__()
        self.key = nn.Linear(width, query, bias=False)

    def keys(self, states: Tensor) -> Tensor:
        return self.key(states)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return torch.bmm(queries, keys.transpose(1, 2))
