"""Evaluating a split: outputs batch by batch, metrics, one evaluation.

In full, it is::

    metrics = task.metrics(final)
    for batch in stream.plain():
        outputs = task.eval_step(batch, draw)      # all noise comes from draw
        for metric in metrics:
            metric.update(outputs, batch, rows)
    everything that the metrics compute

Each of several ranks evaluates every so many-th batch; then all have what each has gathered.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from dltrain.contracts.data import EVALUATION_SEED, Stream, position_seed
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.task import Task
from dltrain.engine.parallel.ranks import Ranks


@dataclass
class Position:
    """A :class:`~dltrain.contracts.data.Draw` for one batch of an evaluated split.

    Its generator lies on the CPU, so that every device evaluates the same noise, and is seeded by
    the batch's place alone, so that it does not matter which batches came before, or where.
    """

    seed: int
    epoch: int
    final: bool
    rows: Tensor
    position: int
    _generator: torch.Generator | None = field(default=None, repr=False)

    @property
    def generator(self) -> torch.Generator:
        """Seeded when it is first asked for: most tasks draw nothing."""
        if self._generator is None:
            self._generator = noise_at(self.position)
        return self._generator


def noise_at(position: int) -> torch.Generator:
    """What batch number ``position`` of an evaluated split draws from, on the CPU."""
    return torch.Generator().manual_seed(position_seed(EVALUATION_SEED, 0, position))


def evaluate(
    task: Task,
    stream: Stream,
    *,
    seed: int,
    epoch: int,
    final: bool,
    ranks: Ranks | None = None,
) -> Evaluation:
    """What the task's metrics say of all of ``stream``; in eval mode, without gradients."""
    ranks = ranks or Ranks()
    metrics, used = task.metrics(final), False
    for position, batch in ranks.dealt(stream):
        used = True
        rows = stream.rows(0, position)
        outputs = task.eval_step(batch, Position(seed, epoch, final, rows, position))
        for metric in metrics:
            metric.update(outputs, batch, rows)
    evaluation = Evaluation()
    for metric in ranks.merged(metrics, used, lambda: task.metrics(final)):
        evaluation |= metric.compute()
    return evaluation
