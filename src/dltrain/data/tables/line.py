"""The tutorials' first regression: four points on y = 2x."""

from __future__ import annotations

from typing import Any

import torch

from dltrain.contracts.data import DataSpec, Field, Reader
from dltrain.data.streams.in_memory import InMemory, Prepare, Split
from dltrain.data.streams.reader import ArrayReader
from dltrain.data.streams.source import ArraySource
from dltrain.data.tables.augment import VectorAugment, prepare_vectors


class Line(ArraySource):
    """Inputs 1, 2, 3, 4 and targets 2, 4, 6, 8. It is tested on the points it learns from."""

    def __init__(self, augment: VectorAugment | None = None, **common: Any) -> None:
        super().__init__(**common)
        self.augment = augment or VectorAugment()

    def outline(self) -> DataSpec:
        """One feature, one number to predict."""
        return DataSpec(
            {
                "input": Field((1,), "number", "input"),
                "target": Field((1,), "number", "target"),
            }
        )

    def splits(self) -> dict[str, Split]:
        inputs = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        points = {"input": inputs, "target": 2 * inputs}
        return {"train": InMemory(points), "test": InMemory(points)}

    def reader(self) -> Reader:
        return ArrayReader([1])

    def prepare(self, device: torch.device) -> Prepare:
        """Noise for the training points, when asked."""
        return prepare_vectors(self.outline().fields, self.augment)
