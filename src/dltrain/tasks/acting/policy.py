"""Policies: actions by chance, of a network's outputs."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Field


class Policy(nn.Module, ABC):
    """A distribution over actions, given a network's ``outputs`` (n, outputs)."""

    @abstractmethod
    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """An action for each row, drawn on the CPU."""

    @abstractmethod
    def best(self, outputs: Tensor) -> Tensor:
        """The likeliest action for each row."""

    @abstractmethod
    def log_probability(self, outputs: Tensor, action: Tensor) -> Tensor:
        """Of each row's ``action`` (n,); a density where actions are numbers."""

    @abstractmethod
    def entropy(self, outputs: Tensor) -> Tensor:
        """Of each row's distribution (n,), in nats."""


class Categorical(Policy):
    """One of some actions: outputs are logits."""

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        """By the Gumbel-max trick."""
        uniform = torch.rand(outputs.shape, generator=generator).clamp_(1e-20).to(outputs.device)
        return (outputs - torch.log(-torch.log(uniform))).argmax(1)

    def best(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(1)

    def log_probability(self, outputs: Tensor, action: Tensor) -> Tensor:
        return functional.log_softmax(outputs, 1).gather(1, action[:, None])[:, 0]

    def entropy(self, outputs: Tensor) -> Tensor:
        logs = functional.log_softmax(outputs, 1)
        return -(logs.exp() * logs).sum(1)


class Gaussian(Policy):
    """Numbers, each normal by itself: outputs are means; one std a number, whatever is seen.

    What is drawn beyond the environment's bounds is brought back to them there.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.log_std = nn.Parameter(torch.zeros(size))

    def sample(self, outputs: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(outputs.shape, generator=generator).to(outputs.device)
        return outputs + self.log_std.exp() * noise

    def best(self, outputs: Tensor) -> Tensor:
        return outputs

    def log_probability(self, outputs: Tensor, action: Tensor) -> Tensor:
        scaled = (action - outputs) / self.log_std.exp()
        logs = -0.5 * scaled.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        return logs.sum(1)

    def entropy(self, outputs: Tensor) -> Tensor:
        one = self.log_std + 0.5 * (1 + math.log(2 * math.pi))
        return one.sum().expand(len(outputs))


def policy_for(action: Field) -> Policy:
    """The one for what an environment asks for."""
    if action.kind == "class":
        return Categorical()
    return Gaussian(math.prod(side or 1 for side in action.shape))
