"""Connectionist temporal classification, of sounds that are long enough for their transcripts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

BLANK = 0
"""The number of the output that is no letter."""


def ctc_losses(
    logits: Tensor, steps: Tensor, targets: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """The loss of each transcript (batch,), and which of them are feasible (batch,).

    Minus the logarithm of the probability of ``targets`` (batch, letters), of which ``lengths``
    (batch,) are real, given ``logits`` (batch, steps, size), of which ``steps`` (batch,) are real
    (Graves et al. 2006). A transcript is feasible that has no more letters than there are steps, a
    step more for each two equal neighbors; of others the loss, which is infinite, is 0 here.
    """
    feasible = steps_needed(targets, lengths) <= steps
    # torch brings lengths to the processor: of a device that is one copy a step.
    losses = functional.ctc_loss(
        logits.float().log_softmax(2).transpose(0, 1),
        targets,
        steps,
        lengths,
        BLANK,
        reduction="none",
        zero_infinity=True,
    )
    return losses.where(feasible, 0.0), feasible


def steps_needed(targets: Tensor, lengths: Tensor) -> Tensor:
    """The least number of steps (batch,) that each of ``targets`` (batch, letters) takes."""
    inside = torch.arange(1, max(1, targets.shape[1]), device=targets.device) < lengths[:, None]
    doubled = (targets[:, 1:] == targets[:, :-1]) & inside
    return lengths + doubled.sum(1)
