"""One vector for a sequence: what becomes of the states of its steps, padding left out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor, nn

Pooling = Literal["last", "max", "mean", "attention"]


class Pool(nn.Module, ABC):
    """States (batch, time, width) to vectors (batch, width).

    ``real`` (batch, time) is true where a step is no padding; every sequence has at least one
    such step, and padding is on the right. Of the ``width`` values the last ``backward`` come
    from a layer that read from right to left.
    """

    def __init__(self, width: int, backward: int = 0) -> None:
        super().__init__()
        self.backward_width = backward

    @abstractmethod
    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        """Pool the states."""

    def weights(self, states: Tensor, real: Tensor) -> Tensor | None:
        """How much each step counts (batch, time), rows summing to 1; None if not learned."""
        return None


class LastPool(Pool):
    """The state after all of a sequence: at its last step forwards, at its first backwards."""

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        forward = states.shape[2] - self.backward_width
        last = (real.sum(1) - 1).view(-1, 1, 1).expand(-1, 1, forward)
        ends = states[..., :forward].gather(1, last).squeeze(1)
        return torch.cat([ends, states[:, 0, forward:]], 1) if self.backward_width else ends


class MaxPool(Pool):
    """The greatest of each value over time."""

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        return states.masked_fill(~real.unsqueeze(2), -torch.inf).amax(1)


class MeanPool(Pool):
    """The mean of each value over time."""

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        return weighted(states, real.float() / real.sum(1, keepdim=True))


class AttentionPool(Pool):
    """A mean weighted by what is learned to matter (Yang et al. 2016, section 2.2, equations 5-7).

    A step's weight is the softmax over time of ``u . tanh(W h + b)``.
    """

    def __init__(self, width: int, backward: int = 0) -> None:
        super().__init__(width, backward)
        self.hidden = nn.Linear(width, width)
        self.context = nn.Linear(width, 1, bias=False)

    def forward(self, states: Tensor, real: Tensor) -> Tensor:
        return weighted(states, self.weights(states, real))

    def weights(self, states: Tensor, real: Tensor) -> Tensor:
        """How much each step counts (batch, time)."""
        scores = self.context(self.hidden(states).tanh()).squeeze(2)
        return scores.float().masked_fill(~real, -torch.inf).softmax(1)


def weighted(states: Tensor, weights: Tensor) -> Tensor:
    """The sum of (batch, time, width) over time by (batch, time)."""
    return torch.bmm(weights.unsqueeze(1).to(states.dtype), states).squeeze(1)


POOLS: dict[str, type[Pool]] = {
    "last": LastPool,
    "max": MaxPool,
    "mean": MeanPool,
    "attention": AttentionPool,
}
