"""Which cell is to find which object, and what a detector of cells is trained by."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.metrics.overlap import pairwise_iou

SMALL = 1e-9
GIOU_SMALL = 1e-7


class Truth(NamedTuple):
    """The objects of a batch: ``boxes`` (batch, n, 4) and ``labels`` (batch, n), padded.

    ``real`` (batch, n) are objects to be found, ``ignored`` (batch, n) regions of which nothing is
    said, such as crowds.
    """

    boxes: Tensor
    labels: Tensor
    real: Tensor
    ignored: Tensor


class Assignment(NamedTuple):
    """Of each cell (batch, cells): its object's place, its target score, whether it is counted.

    A score above 0 says that it has an object. ``boxes`` (batch, cells, 4) and ``labels`` are that
    object's.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    counted: Tensor


@torch.no_grad()
def assign(
    probabilities: Tensor,
    boxes: Tensor,
    centers: Tensor,
    strides: Tensor,
    truth: Truth,
    most: int = 10,
    alpha: float = 1.0,
    beta: float = 6.0,
) -> Assignment:
    """Task-aligned assignment (Feng et al. 2021, TOOD, section 3.2), all images at once.

    A cell suits an object by t = s^alpha * u^beta, s its ``probabilities`` (batch, cells, classes)
    of the object's class, u the IoU of its box (batch, cells, 4). Of the cells with their center in
    an object's box, or within half a stride of its center, the ``most`` that suit best are to find
    it; a cell that suits several finds the one that it overlaps most. The target score is t, scaled
    so that an object's largest is the largest IoU of its cells.
    """
    overlap = pairwise_iou(truth.boxes, boxes)  # (batch, n, cells)
    inside = _near(truth.boxes, centers, strides) & truth.real[..., None]
    labels = truth.labels[..., None].expand(-1, -1, boxes.shape[1])
    chances = probabilities.transpose(1, 2).gather(1, labels)
    fit = chances.pow(alpha) * overlap.pow(beta) * inside
    best = fit.topk(min(most, fit.shape[2]), dim=2)
    chosen = torch.zeros_like(inside).scatter_(2, best.indices, best.values > SMALL)
    # Every object has a cell, however little the first boxes overlap it: the nearest.
    chosen |= _nearest(truth, centers, strides, inside) & ~chosen.any(2, keepdim=True)
    owner = torch.where(chosen, overlap, -1.0).argmax(1)  # (batch, cells)
    chosen &= torch.zeros_like(chosen).scatter_(1, owner[:, None], True)
    fit = torch.where(chosen, fit.clamp(min=SMALL), 0.0)
    overlap = torch.where(chosen, overlap, 0.0)
    scale = overlap.amax(2, keepdim=True) / fit.amax(2, keepdim=True).clamp(min=SMALL)
    scores = (fit * scale).amax(1)
    found = chosen.any(1)
    crowd = _near(truth.boxes, centers, torch.zeros_like(strides)) & truth.ignored[..., None]
    return Assignment(
        boxes=truth.boxes.take_along_dim(owner[..., None], 1),
        labels=truth.labels.gather(1, owner),
        scores=torch.where(found, scores.clamp(min=SMALL), 0.0),
        counted=found | ~crowd.any(1),
    )


def giou_loss(boxes: Tensor, goals: Tensor) -> Tensor:
    """1 - GIoU of each box (..., 4) with its goal, 0 to 2: (...) (Rezatofighi et al. 2019).

    Boxes are left, top, right, bottom. torchvision.ops.generalized_box_iou_loss gives the same, but
    picks the boxes that meet by a mask, for which a CUDA device makes the host wait.
    """
    low = torch.maximum(boxes[..., :2], goals[..., :2])
    high = torch.minimum(boxes[..., 2:], goals[..., 2:])
    common = _area((high - low).clamp(min=0))
    one, other = (_area(corners[..., 2:] - corners[..., :2]) for corners in (boxes, goals))
    union = one + other - common
    hull_low = torch.minimum(boxes[..., :2], goals[..., :2])
    hull_high = torch.maximum(boxes[..., 2:], goals[..., 2:])
    hull = _area(hull_high - hull_low)
    return 1 - common / (union + GIOU_SMALL) + (hull - union) / (hull + GIOU_SMALL)


def varifocal(logits: Tensor, targets: Tensor, alpha: float = 0.75, gamma: float = 2.0) -> Tensor:
    """The varifocal loss (Zhang et al. 2021), of ``logits`` against scores in 0..1, element-wise.

    Where there is an object, cross-entropy with the score, times the score; elsewhere it counts by
    ``alpha`` p^``gamma``, the less the surer the network is already.
    """
    weights = torch.where(targets > 0, targets, alpha * logits.detach().sigmoid().pow(gamma))
    return weights * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")


def _area(sides: Tensor) -> Tensor:
    # Not prod: its gradient asks the device for the zeros among them.
    return sides[..., 0] * sides[..., 1]


def _near(boxes: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Which cells (batch, n, cells) have their center in a box, or half a stride from its center.

    So the smallest object lies in a cell of each level.
    """
    middle, half = (boxes[..., :2] + boxes[..., 2:]) / 2, (boxes[..., 2:] - boxes[..., :2]) / 2
    away = (centers - middle[:, :, None]).abs()
    reach = torch.maximum(half[:, :, None], strides[:, None] / 2)
    return (away <= reach).all(-1)


def _nearest(truth: Truth, centers: Tensor, strides: Tensor, inside: Tensor) -> Tensor:
    """The cell (batch, n, cells) whose center is nearest to each real object's, in its strides."""
    middle = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2
    away = (centers - middle[:, :, None]).square().sum(-1) / strides.square()
    away = away.masked_fill(~inside, float("inf"))
    one = torch.zeros_like(inside).scatter_(2, away.argmin(2, keepdim=True), True)
    return one & inside
