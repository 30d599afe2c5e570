"""How several processes hold the weights of one run."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn


class Parallel(ABC):
    """Divides the weights of a run among its processes, which have all of them otherwise."""

    @abstractmethod
    def divide(self, task: nn.Module, device: torch.device) -> None:
        """Put this process's parts in the place of the parameters of ``task``, as DTensors."""
