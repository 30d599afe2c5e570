"""Exact metrics over a whole split, from counts and sums gathered batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


def confusion_matrix(predicted: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Count (classes, classes): rows are the true classes, columns the predicted ones."""
    flat = targets * classes + predicted
    return torch.bincount(flat, minlength=classes * classes).view(classes, classes)


@dataclass(frozen=True)
class ClassificationReport:
    """Precision, recall and F1 for each class and their plain (macro) means.

    A ratio whose denominator is zero counts as 0. The macro means run over the classes that occur
    among the targets or the predictions.
    """

    precision: list[float]
    recall: list[float]
    f1: list[float]
    support: list[int]
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float


def classification_report(confusion: Tensor) -> ClassificationReport:
    """Derive every ratio from a confusion matrix (classes, classes)."""
    counts = confusion.double()
    hits = counts.diagonal()
    support, predicted = counts.sum(1), counts.sum(0)
    precision = _ratio(hits, predicted)
    recall = _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    occurring = (support + predicted) > 0

    def macro(values: Tensor) -> float:
        return float(values[occurring].mean())

    return ClassificationReport(
        precision=precision.tolist(),
        recall=recall.tolist(),
        f1=f1.tolist(),
        support=[int(count) for count in support.tolist()],
        accuracy=float(hits.sum() / counts.sum()),
        macro_precision=macro(precision),
        macro_recall=macro(recall),
        macro_f1=macro(f1),
    )


def r_squared(predictions: Tensor, targets: Tensor) -> float:
    """The coefficient of determination, 1 - SS_res / SS_tot, averaged over the outputs.

    Where the targets do not vary it is 1 for a perfect prediction and 0 otherwise.
    """
    predictions, targets = predictions.double().flatten(1), targets.double().flatten(1)
    residual = (targets - predictions).square().sum(0)
    total = (targets - targets.mean(0)).square().sum(0)
    perfect = (residual == 0).double()
    return float(torch.where(total > 0, 1 - residual / total.clamp_min(1e-300), perfect).mean())


class Ranking(NamedTuple):
    """How well scores tell one class from the rest, at every threshold from high to low.

    The three curves have one more entry than there are different scores: they begin where
    nothing is taken for the class, with a precision of 1 by convention.
    """

    false_positive_rate: Tensor
    recall: Tensor
    precision: Tensor
    auc: float
    """The area under recall over false-positive rate (ROC), by trapezoids."""
    average_precision: float
    """Precision weighted by the recall that each threshold adds; no interpolation."""


def ranking(scores: Tensor, positive: Tensor) -> Ranking:
    """Judge scores (n,) against ``positive`` (n,), which is True for some and False for others."""
    ordered, order = scores.sort(descending=True)
    found = positive[order].double().cumsum(0)
    # Equal scores pass a threshold together.
    last = torch.cat((ordered[1:] != ordered[:-1], ordered.new_ones(1, dtype=torch.bool)))
    taken = last.nonzero()[:, 0] + 1
    true_positives = torch.cat((found.new_zeros(1), found[last]))
    taken = torch.cat((taken.new_zeros(1), taken))
    false_positives = taken - true_positives
    recall = true_positives / true_positives[-1]
    false_positive_rate = false_positives / false_positives[-1]
    precision = torch.where(taken > 0, true_positives / taken.clamp_min(1), 1.0)
    return Ranking(
        false_positive_rate,
        recall,
        precision,
        auc=float(torch.trapezoid(recall, false_positive_rate)),
        average_precision=float((recall.diff() * precision[1:]).sum()),
    )


class ConfidenceBin(NamedTuple):
    """The examples whose confidence lies above ``low`` and not above ``high``; at least one."""

    low: float
    high: float
    examples: int
    confidence: float
    """Their mean confidence."""
    accuracy: float


def calibration(confidence: Tensor, hits: Tensor, bins: int = 15) -> list[ConfidenceBin]:
    """Confidence (n,), from 0 to 1, and hits (n,) in ``bins`` of one width, the empty left out."""
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)
    confidence = confidence.double().cpu()
    # A confidence that is not a number belongs to no bin.
    number, hits = confidence == confidence, hits.cpu()
    confidence, hits = confidence[number], hits[number]
    places = torch.bucketize(confidence, edges[1:-1])
    counts = torch.bincount(places, minlength=bins)
    confidences = torch.bincount(places, confidence, minlength=bins)
    correct = torch.bincount(places, hits.double(), minlength=bins)
    rows = zip(
        edges[:-1].tolist(),
        edges[1:].tolist(),
        counts.tolist(),
        (confidences / counts).tolist(),
        (correct / counts).tolist(),
        strict=True,
    )
    return [ConfidenceBin(*row) for row in rows if row[2]]


def calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """The expected one: mean distance of accuracy and confidence over all examples, bin by bin.

    Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, equation 5.
    """
    total = sum(b.examples for b in bins)
    return sum(b.examples * abs(b.accuracy - b.confidence) for b in bins) / max(total, 1)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp_min(1), 0.0)


def sliced_wasserstein(one: Tensor, other: Tensor, directions: int = 128, seed: int = 0) -> float:
    """How far apart two sets of as many points (n, dimensions) are, as distributions.

    The mean over random directions of the Wasserstein-1 distance of what the points are along
    each (Bonneel et al. 2015, with their sums for its integral). The directions depend on
    ``seed`` and the dimensions alone, so distances can be compared.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(one.shape[1], directions, generator=generator, dtype=torch.float32)
    along = (drawn / drawn.norm(dim=0)).to(one.device)
    with torch.autocast(one.device.type, enabled=False):
        places = [(points.float() @ along).sort(dim=0).values for points in (one, other)]
    return float((places[0] - places[1]).abs().mean(dtype=torch.float64))
