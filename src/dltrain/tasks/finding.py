"""From scores of boxes to what is found: non-maximum suppression, and the file's own pixels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from dltrain.contracts.data import Batch

CANDIDATES = 1000
"""Boxes of an image that are compared with each other: those of the highest scores."""


class Found(NamedTuple):
    """Objects of a batch, the surest first, padded: ``lengths`` (batch,) says how many there are.

    ``boxes`` (batch, n, 4), ``labels`` and ``scores`` (batch, n).
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    lengths: Tensor

    def above(self, threshold: float) -> Found:
        """Those of at least that score."""
        keep = self.scores >= threshold
        lengths = torch.minimum(keep.sum(1), self.lengths)
        return padded(self.boxes, self.labels, self.scores, lengths)


def padded(boxes: Tensor, labels: Tensor, scores: Tensor, lengths: Tensor) -> Found:
    """Zeros beyond the ``lengths``."""
    real = torch.arange(boxes.shape[1], device=boxes.device) < lengths[:, None]
    return Found(
        torch.where(real[..., None], boxes, 0), torch.where(real, labels, 0),
        torch.where(real, scores, 0), lengths,
    )  # fmt: skip


def suppressed(boxes: Tensor, scores: Tensor, lowest: float, overlap: float, most: int) -> Found:
    """What is left of ``boxes`` (batch, n, 4) with ``scores`` (batch, n, classes).

    A box may be of several classes. Of those of a class that overlap by an IoU above ``overlap``
    the surest is kept, ``most`` an image, those of scores above ``lowest``. All images at once.
    """
    from torchvision.ops import batched_nms

    batch, _, classes = scores.shape
    found, places = scores.flatten(1).topk(min(CANDIDATES, scores[0].numel()), dim=1)
    labels = places % classes
    boxes = boxes.take_along_dim((places // classes)[..., None], 1)
    images = torch.arange(batch, device=boxes.device)[:, None]
    kept = torch.zeros_like(found, dtype=torch.bool)
    valid = found > lowest
    # In float64, for images and classes are told apart by moving their boxes far from each other.
    chosen = batched_nms(
        boxes[valid].double(), found[valid].double(), (images * classes + labels)[valid], overlap
    )
    kept[valid] = torch.zeros_like(found[valid], dtype=torch.bool).index_fill_(0, chosen, True)
    best, order = torch.where(kept, found, -1.0).topk(min(most, found.shape[1]), dim=1)
    return padded(
        boxes.take_along_dim(order[..., None], 1), labels.gather(1, order), best,
        (best >= 0).sum(1),
    )  # fmt: skip


def in_the_file(boxes: Tensor, batch: Batch) -> Tensor:
    """``boxes`` (batch, n, 4) of the input, in pixels of the files' images, and within them."""
    placement = batch["placement"]
    scale, offset = placement[:, None, :2].repeat(1, 1, 2), placement[:, None, 2:].repeat(1, 1, 2)
    limit = batch["image_size"].flip(1)[:, None].repeat(1, 1, 2)
    return torch.minimum(((boxes - offset) / scale).clamp(min=0), limit.to(boxes.dtype))
