"""The tutorials' first regression: four points on y = 2x."""

from __future__ import annotations

from typing import Any

import torch

from dltrain.data.arrays import ArraySource
from dltrain.data.loaders import Prepare
from dltrain.data.vectors import VectorAugment, prepare_vectors
from dltrain.types import Batch


class Line(ArraySource):
    """Inputs 1, 2, 3, 4 and targets 2, 4, 6, 8. It is tested on the points it learns from."""

    def __init__(self, augment: VectorAugment | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.augment = augment or VectorAugment()

    @property
    def facts(self) -> dict[str, Any]:
        """One feature, one output."""
        return {"input_shape": (1,), "outputs": 1}

    def read(self) -> tuple[Batch, Batch]:
        """Make the points."""
        inputs = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        points = {"input": inputs, "target": 2 * inputs}
        return points, dict(points)

    def prepare(self, device: torch.device) -> Prepare:
        """Noise for the training points, when asked."""
        return prepare_vectors(self.augment)
