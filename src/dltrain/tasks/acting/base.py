"""What all tasks that learn by acting have in common: observations, episodes, answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Draw
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Monitor, Predictions, Task
from dltrain.metrics.returns import Returns

BYTES = 255
"""What a pixel of a screen is divided by."""


class ActingTask(Task):
    """A task whose data is an environment, evaluated by the return of its best actions.

    Raises ValueError for other data.
    """

    monitor = Monitor("return", "max")
    needs_target = False

    def __init__(self, model: nn.Module, spec: DataSpec) -> None:
        super().__init__()
        self.asked = spec.action
        self._input = next(name for name, f in spec.fields.items() if f.role == "input")
        self._divisor = BYTES if spec.input.kind == "image" else 1
        self.model = model

    def read(self, observation: Tensor) -> Tensor:
        """An observation (n, …) as networks take it: pixels, kept as bytes, as 0..1."""
        found = observation.float()
        return found if self._divisor == 1 else found / self._divisor

    @abstractmethod
    def best_action(self, observation: Tensor) -> Tensor:
        """See :meth:`~dltrain.contracts.acting.Acts.best_action`."""

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """Nothing more than what the episodes came to, which the batch says."""
        return {}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """The return, and how long episodes are."""
        return [Returns()]

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """The best ``action`` for each observation."""
        action = self.best_action(batch[self._input])
        if self.asked.low:
            low, high = (action.new_tensor(bound) for bound in (self.asked.low, self.asked.high))
            action = action.clamp(low, high)
        return Predictions({"action": action}, {"action": replace(self.asked, role="other")})

    def episodes(self, batch: Batch) -> Metrics:
        """``return`` and ``length`` of the episodes that ended since the batch before."""
        count = batch["episodes"][0]
        return {
            "return": (batch["episode_return"][0], count),
            "length": (batch["episode_length"][0], count),
        }
