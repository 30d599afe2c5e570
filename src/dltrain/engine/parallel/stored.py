"""A tensor of a checkpoint that lies on the disk in the parts that ranks have written."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Stored(ABC):
    """Stands in a checkpoint's state for a tensor of ``shape`` and ``dtype`` that is read later."""

    shape: torch.Size
    dtype: torch.dtype

    @abstractmethod
    def fill(self, target: Tensor) -> Tensor:
        """Read into ``target``, of the same shape: of a DTensor, what this rank has of it.

        Returns ``target``. Raises :class:`UserError` where a part is damaged.
        """

    def whole(self, device: torch.device | str = "cpu") -> Tensor:
        """All of it."""
        return self.fill(torch.empty(self.shape, dtype=self.dtype, device=device))
