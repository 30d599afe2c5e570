"""A policy, and what it expects to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from dltrain.models.acting.encoder import dense, eyes, orthogonal, require_layers
from dltrain.models.layers.activations import Activation


@runtime_checkable
class HasValue(Protocol):
    """A network of a policy that says what its observations are worth, too."""

    def with_value(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """The policy's outputs (n, outputs), and the return to expect (n,)."""


class ActorCritic(nn.Module):
    """Observations (n, *input_shape) to a policy's outputs (n, outputs), and a value.

    Actor and critic have dense layers of ``hidden`` units of their own; the convolutions of images
    of at least 36x36 (Mnih et al. 2015) are the same for both. Initial weights are orthogonal, the
    policy's last ones small: it begins with all actions alike.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        hidden: Sequence[int] = (64, 64),
        activation: Activation = "tanh",
    ) -> None:
        super().__init__()
        require_layers(hidden)
        self.eyes, width = eyes(input_shape, activation)
        layers, end = dense(width, hidden, activation)
        self.actor = nn.Sequential(*layers, nn.Linear(end, outputs))
        layers, _ = dense(width, hidden, activation)
        self.critic = nn.Sequential(*layers, nn.Linear(end, 1))
        orthogonal(self)
        orthogonal(self.actor[-1], 0.01)
        orthogonal(self.critic[-1], 1.0)

    def forward(self, observation: Tensor) -> Tensor:
        """The policy's outputs alone."""
        outputs: Tensor = self.actor(self.eyes(observation))
        return outputs

    def with_value(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """See :class:`HasValue`."""
        features = self.eyes(observation)
        return self.actor(features), self.critic(features)[:, 0]
