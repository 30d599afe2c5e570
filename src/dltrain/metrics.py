"""Exact metrics over a whole split, from counts and sums gathered batch by batch."""

from __future__ import annotations

from dataclasses import dataclass

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


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp_min(1), 0.0)
