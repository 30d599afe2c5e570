"""Batch norm whose statistics are of the global batch, in training: ``trainer.sync_batch_norm``.

torch's :class:`torch.nn.SyncBatchNorm` is of CUDA devices alone; here is one for the others.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from dltrain.engine.parallel.ranks import Ranks

logger = logging.getLogger(__name__)
KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _Sum(torch.autograd.Function):
    """The sum over ranks; each is told the sum of what the losses of all say of it."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        summed = value.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return _Sum.forward(context, gradient)


class BatchNormOfRanks(_BatchNorm):
    """Normalizes (batch, channels, …) by mean and variance over the rows of all ranks.

    Parts are joined by the formula of Chan, Golub and LeVeque 1983, in one collective a pass.
    """

    ranks: Ranks

    def _check_input_dim(self, input: Tensor) -> None:
        return None

    def forward(self, input: Tensor) -> Tensor:
        """Normalize; in evaluation by the running statistics, as ever."""
        if not self.training:
            return super().forward(input)
        mean, variance, count = self._statistics(input)
        self._run(mean.detach(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt()
        shift = -mean * scale
        if self.affine:
            scale, shift = scale * self.weight, shift * self.weight + self.bias
        sides = [1, -1, *[1] * (input.dim() - 2)]
        return (input * scale.view(sides) + shift.view(sides)).to(input.dtype)

    def _statistics(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variance and number of values a channel, over all ranks."""
        values = input.float()
        over = [0, *range(2, input.dim())]
        # A rank without a row of its own counts for nothing.
        count = values.numel() // values.shape[1] * (self.ranks.fraction > 0)
        variance, mean = torch.var_mean(values, over, correction=0)
        own = torch.stack([mean, variance, torch.full_like(mean, count)])
        parts = [
            own if r == self.ranks.rank else torch.zeros_like(own) for r in range(self.ranks.world)
        ]
        means, variances, counts = _Sum.apply(torch.stack(parts)).unbind(1)
        total = counts.sum(0)
        mean = (means * counts).sum(0) / total
        squares = (counts * (variances + (means - mean).square())).sum(0)
        return mean, squares / total, total

    @torch.no_grad()
    def _run(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if not self.track_running_stats or self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        part = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, part)
        self.running_var.lerp_(variance * count / (count - 1).clamp_min(1), part)


def synchronize(task: nn.Module, ranks: Ranks, device: torch.device) -> None:
    """Have every batch norm of ``task`` count the rows of all ranks; weights stay as they are."""
    found = [module for module in task.modules() if isinstance(module, _BatchNorm)]
    others = {type(module).__name__ for module in found if type(module) not in KINDS}
    if others:
        logger.warning(
            f"trainer.sync_batch_norm: {', '.join(sorted(others))} normalizes by the rows of one "
            "rank: it is no batch norm of torch's own."
        )
    if not found:
        logger.info("trainer.sync_batch_norm: this network has no batch norm.")
    for module in found:
        if type(module) not in KINDS:
            continue
        # Another class, and the same object: whoever holds it, or its weights, holds them still.
        if device.type == "cuda":
            module.__class__ = nn.SyncBatchNorm
            vars(module)["process_group"] = dist.group.WORLD
        else:
            module.__class__ = BatchNormOfRanks
            vars(module)["ranks"] = ranks
