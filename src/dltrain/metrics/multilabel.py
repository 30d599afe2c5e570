"""What is measured where an example has any number of labels.

The metric reads ``logits`` (batch, labels) and ``labels`` (batch, labels), which are those taken to
be there; the batch has ``target`` (batch, labels), 0 or 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Mode, Outputs, Scores, Table
from dltrain.metrics.accumulators import AccumulatorMetric, Everything
from dltrain.metrics.classification import MOST_CURVES, ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class LabelRatios(AccumulatorMetric):
    """Mean average precision, F1, subset accuracy and Hamming loss; precision and recall by label.

    Micro-F1 counts all labels of all examples together; macro-F1 is the plain mean of those of the
    labels that occur among targets or predictions. Average precision is without interpolation, and
    its mean is over the labels that any example has. Subset accuracy is the fraction of examples
    all of whose labels are right, Hamming loss that of wrong labels among all. A ratio whose
    denominator is zero counts as 0. It keeps every logit.
    """

    names = ("map", "f1_micro", "f1_macro", "subset_accuracy", "hamming_loss")
    better: Mapping[str, Mode] = {**dict.fromkeys(names[:4], "max"), "hamming_loss": "min"}

    def __init__(self, label_names: Sequence[str], thresholds: Sequence[float]) -> None:
        self._names, self._thresholds = label_names, thresholds
        self._answers = Everything()
        super().__init__(answers=self._answers)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the batch's logits, labels and targets."""
        self._answers.add(rows, outputs["logits"], outputs["labels"], batch["target"])

    def compute(self) -> Evaluation:
        """The ratios, a table of them by label, and a figure of every label's curves."""
        logits, labels, targets = (column.cpu() for column in self._answers.found())
        said, true = labels.bool(), targets.bool()
        hits, predicted, support = (part.sum(0).double() for part in (said & true, said, true))
        precision, recall = _ratio(hits, predicted), _ratio(hits, support)
        f1 = _ratio(2 * hits, predicted + support)
        occurring = predicted + support > 0
        precisions = [
            ranking(logits[:, number], true[:, number]).average_precision if support[number] else 0
            for number in range(len(self._names))
        ]
        found = [value for value, count in zip(precisions, support, strict=True) if count]
        by_label = (*(part.tolist() for part in (precision, recall, f1)), precisions)
        columns = ("label", "precision", "recall", "f1", "average_precision", "support")
        rows = zip(self._names, *by_label, support.long().tolist(), self._thresholds, strict=True)
        return Evaluation(
            scalars={
                "map": sum(found) / max(len(found), 1),
                "f1_micro": float(_ratio(2 * hits.sum(), (predicted + support).sum())),
                "f1_macro": float(f1[occurring].mean()) if occurring.any() else 0.0,
                "subset_accuracy": float((said == true).all(1).double().mean()),
                "hamming_loss": float((said != true).double().mean()),
            },
            tables={"per_label": Table((*columns, "threshold"), list(rows))},
            figures={
                "roc_and_precision_recall": partial(_draw_curves, logits, true, self._names),
                "per_label": partial(_draw_labels, self._names, f1, precisions, support),
            },
            scores={
                name: partial(_scores, logits, true, number)
                for number, name in enumerate(self._names[:MOST_CURVES])
                if 0 < support[number] < len(true)
            },
        )


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp_min(1), 0.0)


def _scores(logits: Tensor, true: Tensor, number: int) -> Scores:
    return Scores(logits[:, number].sigmoid(), true[:, number])


def _draw_curves(logits: Tensor, true: Tensor, names: Sequence[str]) -> Figure:
    from dltrain.reports.probabilities import ClassCurves, draw_rankings

    curves = []
    for number, name in enumerate(names):
        own = true[:, number]
        if own.any() and not own.all():
            fpr, recall, precision, *areas = ranking(logits[:, number].double(), own)
            curves.append(ClassCurves(name, fpr.numpy(), recall.numpy(), precision.numpy(), *areas))
    return draw_rankings(curves)


def _draw_labels(
    names: Sequence[str], f1: Tensor, precisions: Sequence[float], support: Tensor
) -> Figure:
    from dltrain.reports.labels import draw_labels

    return draw_labels(names, f1.numpy(), precisions, support.long().tolist())
