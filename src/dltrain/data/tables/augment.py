"""Preparing vectors of features."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dltrain.contracts.data import Augment, Batch, Draw, Field
from dltrain.data.streams.in_memory import Prepare
from dltrain.errors import require_fraction


class VectorAugment(Augment):
    """Random changes of feature vectors: Gaussian ``noise`` of that standard deviation.

    ``drop`` leaves each input of several out of that fraction of the rows (modality dropout:
    Neverova et al. 2016, arXiv:1501.00102), so that the network can do without any of them.
    """

    def __init__(self, noise: float = 0.0, drop: float = 0.0) -> None:
        require_fraction(drop=drop)
        if noise < 0:
            raise ValueError(f"noise is a standard deviation, not negative; got {noise}")
        self.noise, self.drop = noise, drop

    def check(self, fields: Mapping[str, Field]) -> None:
        """Raise :class:`ValueError` where there is nothing to be left out."""
        inputs = [f for f in fields.values() if f.role == "input" and 0 not in f.shape]
        if self.drop and len(inputs) < 2:
            raise ValueError("augment.drop needs several inputs, such as data.images, data.texts")

    def __call__(self, batch: Batch, draw: Draw, fields: Mapping[str, Field]) -> Batch:
        """Perturb the inputs (batch, features) that are numbers."""
        changed = dict(batch)
        if self.drop:
            changed = leave_out(changed, fields, self.drop, draw)
        if not self.noise:
            return changed
        for name, field in fields.items():
            if field.role == "input" and field.kind == "number":
                noise = torch.empty_like(batch[name]).normal_(generator=draw.generator)
                changed[name] = changed[name] + self.noise * noise
        return changed


def prepare_vectors(fields: Mapping[str, Field], augment: VectorAugment) -> Prepare:
    """Augment the training batches; evaluation sees them as they are."""

    def as_it_is(batch: Batch, draw: Draw | None) -> Batch:
        return batch

    def prepare(batch: Batch, draw: Draw | None) -> Batch:
        return batch if draw is None else augment(batch, draw, fields)

    return prepare if augment.noise or augment.drop else as_it_is


def leave_out(batch: Batch, fields: Mapping[str, Field], fraction: float, draw: Draw) -> Batch:
    """The batch without some inputs: each is left out of that ``fraction`` of the rows.

    A row keeps one of its inputs at least. What is left out is no number or, of tokens and
    categories, index 0.
    """
    inputs = {
        name: field
        for name, field in fields.items()
        if field.role == "input" and 0 not in field.shape
    }
    first = next(iter(batch.values()))
    drawn = torch.rand(
        len(first), len(inputs), generator=draw.generator, device=draw.generator.device
    ).to(first.device)
    # The one that was the last to go stays.
    left_out = (drawn < fraction) & (drawn < drawn.amax(1, keepdim=True))
    changed = dict(batch)
    for (name, field), gone in zip(inputs.items(), left_out.unbind(1), strict=True):
        nothing = torch.nan if field.kind in ("number", "image") else 0
        rows = gone.view(-1, *[1] * (batch[name].dim() - 1))
        changed[name] = batch[name].masked_fill(rows, nothing)
    return changed
