"""Batch norm cannot train on a single value a channel: found out before a run begins."""

from __future__ import annotations

import copy
from collections.abc import Callable

from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from dltrain.contracts.data import Stream
from dltrain.contracts.task import Task
from dltrain.engine import runtime
from dltrain.errors import UserError

REFUSED = "Expected more than 1 value per channel"
"""How torch's message begins."""


def require_variance(task: Task, stream: Stream) -> None:
    """Raise :class:`UserError` where a batch of one example has no variance for batch norm.

    Only where there are such batches and such layers, a copy of ``task`` takes one training step
    on one example: an image of many pixels has a variance of its own, a vector has none.
    """
    if stream.smallest_batch != 1 or not any(isinstance(m, _BatchNorm) for m in task.modules()):
        return
    one = {name: column[:1] for name, column in stream.first().items()}
    with runtime.generators_kept(next(iter(one.values())).device):
        try:
            copy.deepcopy(task).train().train_step(one, _compute)
        except ValueError as error:
            if not str(error).startswith(REFUSED):
                raise
            raise UserError(
                "data.batch_size: a training batch has a single example, of which batch norm has "
                "no variance. Take another data.batch_size (2 or more), or a model without batch "
                "norm."
            ) from error


def _compute(
    loss: Tensor | Callable[[], Tensor], name: str = "model", weight: Tensor | float | None = None
) -> None:
    """The forward pass of a step whose loss may be computed late, and nothing else."""
    if not isinstance(loss, Tensor):
        loss()
