"""Preparing vectors of features."""

from __future__ import annotations

import torch

from dltrain.data.loaders import Draw, Prepare
from dltrain.types import Augment, Batch


class VectorAugment(Augment):
    """Random changes of feature vectors: Gaussian ``noise`` of that standard deviation."""

    def __init__(self, noise: float = 0.0) -> None:
        if noise < 0:
            raise ValueError(f"noise is a standard deviation, not negative; got {noise}")
        self.noise = noise

    def __call__(self, inputs: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Perturb inputs (batch, features), drawing from ``generator`` alone."""
        if not self.noise:
            return inputs
        return inputs + self.noise * torch.empty_like(inputs).normal_(generator=generator)


def prepare_vectors(augment: VectorAugment) -> Prepare:
    """Augment the training batches' column ``input``; evaluation sees it as it is."""

    def as_it_is(batch: Batch, draw: Draw | None) -> Batch:
        return batch

    def prepare(batch: Batch, draw: Draw | None) -> Batch:
        if draw is not None:
            batch["input"] = augment(batch["input"], draw.generator)
        return batch

    return prepare if augment.noise else as_it_is
