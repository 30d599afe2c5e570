"""How several processes hold the weights of one run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import nn


class Parallel(ABC):
    """Divides the weights of a run among its processes, which have all of them otherwise."""

    @abstractmethod
    def divided(self, task: nn.Module, ranks: Any) -> Any:
        """Put this process's parts in the place of parameters of ``task``, as DTensors.

        Returns the ``ranks`` of such a task (:class:`dltrain.engine.parallel.ranks.Ranks`); where
        there is one process alone, nothing changes.
        """
