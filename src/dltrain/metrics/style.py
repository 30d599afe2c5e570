"""What images in a style are worth."""

from __future__ import annotations

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Outputs
from dltrain.metrics.accumulators import AccumulatorMetric, Sum, double

NAMES = ("loss", "content_loss", "style_loss")
PLAIN = "plain_style_loss"
LEAST = 1e-12
"""A style loss below which there is no difference of styles."""


class StyleLosses(AccumulatorMetric):
    """Mean losses; ``style_fraction`` is the style loss over that of the images as they are."""

    names = (*NAMES, "style_fraction")

    def __init__(self) -> None:
        self._sums = Sum()
        super().__init__(sums=self._sums)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Add the losses (batch,) of the outputs."""
        losses = torch.stack([outputs[name] for name in (*NAMES, PLAIN)])
        self._sums.add(double(losses).sum(1), losses.shape[1])

    def compute(self) -> Evaluation:
        """Means over the examples."""
        *means, plain = (self._sums.value / self._sums.examples).tolist()
        found = dict(zip(NAMES, means, strict=True))
        # A plain image may have the style already.
        fraction = found["style_loss"] / max(plain, LEAST)
        return Evaluation({**found, "style_fraction": fraction})
