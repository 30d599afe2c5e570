"""Preparing vectors of features."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dltrain.contracts.data import Augment, Batch, Draw, Field
from dltrain.data.streams.in_memory import Prepare


class VectorAugment(Augment):
    """Random changes of feature vectors: Gaussian ``noise`` of that standard deviation."""

    def __init__(self, noise: float = 0.0) -> None:
        if noise < 0:
            raise ValueError(f"noise is a standard deviation, not negative; got {noise}")
        self.noise = noise

    def __call__(self, batch: Batch, draw: Draw, fields: Mapping[str, Field]) -> Batch:
        """Perturb the inputs (batch, features) that are numbers."""
        if not self.noise:
            return batch
        changed = dict(batch)
        for name, field in fields.items():
            if field.role == "input" and field.kind == "number":
                noise = torch.empty_like(batch[name]).normal_(generator=draw.generator)
                changed[name] = batch[name] + self.noise * noise
        return changed


def prepare_vectors(fields: Mapping[str, Field], augment: VectorAugment) -> Prepare:
    """Augment the training batches; evaluation sees them as they are."""

    def as_it_is(batch: Batch, draw: Draw | None) -> Batch:
        return batch

    def prepare(batch: Batch, draw: Draw | None) -> Batch:
        return batch if draw is None else augment(batch, draw, fields)

    return prepare if augment.noise else as_it_is
