"""What a reader does to new examples, said so that it can be done without dltrain."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


class TensorSteps(nn.Module, ABC):
    """The tensor work of a reader: the first layers of an exported network."""

    @abstractmethod
    def forward(self, raw: Tensor) -> Tensor:
        """The batch's ``input``, of examples as whoever uses the network has them."""

    @abstractmethod
    def restore(self, inputs: Tensor) -> Tensor:
        """The way back, for examples that a run keeps."""


class Cast(TensorSteps):
    """No work but of types: ``dtype`` outside, that of the batch inside."""

    def __init__(self, dtype: torch.dtype, inside: torch.dtype) -> None:
        super().__init__()
        self.dtype, self.inside = dtype, inside

    def forward(self, raw: Tensor) -> Tensor:
        return raw.to(self.inside)

    def restore(self, inputs: Tensor) -> Tensor:
        return inputs.to(self.dtype)


@dataclass(frozen=True)
class Preprocessing:
    """What a reader does, in two parts.

    ``tensors`` goes into the exported network, whose input is then called ``name``. ``outside`` is
    what comes before, for JSON: ``kind`` and whatever that kind needs (docs/export.md). ``files``
    are written beside it: content by name.
    """

    name: str
    tensors: TensorSteps
    outside: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
