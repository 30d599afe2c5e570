"""Small changes of inputs that are to mislead a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from dltrain.contracts.data import Batch


class AttackScores(NamedTuple):
    """What an attack is to raise, of each example of a batch, with gradients."""

    losses: Tensor
    """(batch,)"""
    wrong: Tensor
    """(batch,): whether the answer is wrong already."""


@runtime_checkable
class Attackable(Protocol):
    """A task whose inputs can be attacked."""

    def attack_scores(self, batch: Batch) -> AttackScores:
        """Losses and mistakes on ``batch``, which the attack differentiates."""


Scores = Callable[[Tensor], AttackScores]
"""From inputs (batch, …), as a network reads them, to losses and mistakes."""


class Attack(ABC):
    """Changes inputs within ``epsilon``, so that a network errs."""

    epsilon: float
    """The largest change."""

    @abstractmethod
    def perturbed(
        self, scores: Scores, inputs: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Changed ``inputs`` (batch, …), detached, to train on; in one go.

        Noise is from ``generator``, which lies on the CPU; None: from torch's own.
        """

    @abstractmethod
    def strongest(self, scores: Scores, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Changed ``inputs``, detached, to evaluate on: for each example the worst that was tried.

        Worse than any loss is a mistake.
        """
