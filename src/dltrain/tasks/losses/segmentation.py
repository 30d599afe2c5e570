"""Losses of each pixel's class."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class PixelLoss(nn.Module):
    """``cross_entropy`` times the cross-entropy, plus ``dice`` times the Dice loss of a batch.

    Pixels whose target is ``ignored`` count for nothing. The cross-entropy is the mean over all
    others; ``weights`` (classes,) multiply that of each class's pixels, a map of weights beside the
    targets adds to these (Ronneberger et al. 2015, equation 2), and with ``focal_gamma`` above 0 a
    pixel of probability p counts ``(1 - p)^gamma`` times (Lin et al. 2017).

    The Dice loss (Milletari et al. 2016) is 1 minus the mean over the classes of
    ``(2 sum(p g) + 1) / (sum(p) + sum(g) + 1)``, where p is a class's probability, g is 1 in its
    pixels, else 0, and sums are over all pixels of the batch.
    """

    weights: Tensor | None

    def __init__(
        self,
        ignored: int,
        cross_entropy: float = 1.0,
        dice: float = 0.0,
        weights: Sequence[float] | None = None,
        focal_gamma: float = 0.0,
    ) -> None:
        super().__init__()
        self.ignored, self.focal_gamma = ignored, focal_gamma
        self.cross_entropy, self.dice = cross_entropy, dice
        # Not persistent: it follows the network to its device, but is no part of a checkpoint.
        made = None if weights is None else torch.tensor(weights)
        self.register_buffer("weights", made, persistent=False)

    def forward(self, logits: Tensor, targets: Tensor, extra: Tensor | None = None) -> Tensor:
        """The loss, 0-d, of logits (batch, classes, h, w) and targets (batch, h, w).

        ``extra`` (batch, h, w) is the map of weights.
        """
        logits, targets = logits.float(), targets.long()
        known = targets != self.ignored
        total = logits.new_zeros(())
        if self.cross_entropy:
            total = total + self.cross_entropy * self._cross_entropy(logits, targets, known, extra)
        if self.dice:
            total = total + self.dice * self._dice(logits, targets, known)
        return total

    def _cross_entropy(
        self, logits: Tensor, targets: Tensor, known: Tensor, extra: Tensor | None
    ) -> Tensor:
        count = known.sum().clamp_min(1)
        if extra is None and not self.focal_gamma:
            total = functional.cross_entropy(
                logits, targets, self.weights, ignore_index=self.ignored, reduction="sum"
            )
            return total / count
        each = functional.cross_entropy(
            logits, targets, ignore_index=self.ignored, reduction="none"
        )
        weights = known.to(each)
        if self.weights is not None:
            weights = self.weights[targets.where(known, 0)] * known
        if extra is not None:
            weights = weights + extra.to(each) * known
        if self.focal_gamma:
            # 1 - p, also where p is so near 1 that float32 rounds it there.
            weights = weights * (-torch.expm1(-each)).clamp_min(1e-12) ** self.focal_gamma
        return (each * weights).sum() / count

    def _dice(self, logits: Tensor, targets: Tensor, known: Tensor) -> Tensor:
        classes = logits.shape[1]
        chances = logits.softmax(1) * known[:, None]
        own = functional.one_hot(targets.where(known, 0), classes).movedim(-1, 1) * known[:, None]
        both = (chances * own).sum((0, 2, 3))
        sizes = chances.sum((0, 2, 3)) + own.sum((0, 2, 3))
        return 1 - ((2 * both + 1) / (sizes + 1)).mean()
