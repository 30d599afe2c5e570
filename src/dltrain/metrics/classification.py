"""What a classifier is evaluated by: counts, rankings, calibration and examples.

The metrics read three columns of outputs: ``logits`` (batch, classes) in float32, and from their
softmax ``class`` (batch,), the most probable, and ``confidence`` (batch,), its probability. The
batch has ``input`` (batch, ...) and ``target`` (batch,).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Mode, Outputs, Scores, Table
from dltrain.metrics.accumulators import (
    Accumulator,
    AccumulatorMetric,
    Everything,
    Sum,
    TopK,
    double,
    spread,
)
from dltrain.reports.plane import Plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self

SAMPLES = 16
"""Examples that are shown."""
MOST_CURVES = 20
"""Classes that have precision-recall curves of their own in TensorBoard."""
PLACES = 80
"""How finely each side of a plane of two features is looked at."""


def confusion_matrix(predicted: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Count (classes, classes): rows are the true classes, columns the predicted ones."""
    flat = targets * classes + predicted
    counts = torch.zeros(classes * classes, dtype=torch.int64, device=flat.device)
    # bincount would wait for the device, to see how many different values there are.
    return counts.index_add_(0, flat, torch.ones_like(flat)).view(classes, classes)


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
    """Curves of scores (n,) against ``positive`` (n,), which is True for some, False for others."""
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
    """Confidence (n,), from 0 to 1, and hits (n,) in ``bins`` of one width, the empty left out.

    A confidence that is not a number belongs to no bin.
    """
    return _occupied(_binned(confidence, hits, bins))


def _binned(confidence: Tensor, hits: Tensor, bins: int) -> Tensor:
    """Examples, their summed confidence, and hits, of each bin: (bins, 3) in float64."""
    confidence = double(confidence)
    places = torch.bucketize(confidence, _edges(bins, confidence.device)[1:-1])
    columns = torch.ones_like(confidence), confidence, hits.to(confidence)
    is_number = (confidence == confidence)[:, None]
    sums = confidence.new_zeros(bins, len(columns))
    return sums.index_add_(0, places, torch.stack(columns, 1).where(is_number, 0.0))


def _occupied(sums: Tensor) -> list[ConfidenceBin]:
    """The bins with examples, from what :func:`_binned` sums."""
    edges = _edges(len(sums), torch.device("cpu")).tolist()
    rows = zip(edges[:-1], edges[1:], sums.tolist(), strict=True)
    return [
        ConfidenceBin(low, high, int(count), confidence / count, correct / count)
        for low, high, (count, confidence, correct) in rows
        if count
    ]


def _edges(bins: int, device: torch.device) -> Tensor:
    """Where the bins begin and end, (bins + 1,)."""
    return torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=device)


def calibration_error(bins: Sequence[ConfidenceBin]) -> float:
    """The expected one: mean distance of accuracy and confidence over all examples, bin by bin.

    Naeini, Cooper and Hauskrecht 2015; Guo et al. 2017, equation 5.
    """
    total = sum(b.examples for b in bins)
    return sum(b.examples * abs(b.accuracy - b.confidence) for b in bins) / max(total, 1)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator.clamp_min(1), 0.0)


class ConfusionMatrix(AccumulatorMetric):
    """Accuracy, and precision, recall and F1 as macro means and by class, from counts alone."""

    names = ("accuracy", "precision", "recall", "f1")
    better: Mapping[str, Mode] = dict.fromkeys(names, "max")

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._counts = Sum()
        super().__init__(counts=self._counts)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Count the batch."""
        counts = confusion_matrix(outputs["class"], batch["target"], len(self._class_names))
        self._counts.add(counts, len(rows))

    def compute(self) -> Evaluation:
        """The ratios, a table of them by class, and a figure of which is taken for which."""
        counts = self._counts.value.cpu()
        report = classification_report(counts)
        by_class = (report.precision, report.recall, report.f1, report.support)
        rows = list(zip(self._class_names, *by_class, strict=True))
        columns = ("class", "precision", "recall", "f1", "support")
        return Evaluation(
            scalars={
                "accuracy": report.accuracy,
                "precision": report.macro_precision,
                "recall": report.macro_recall,
                "f1": report.macro_f1,
            },
            tables={"per_class": Table(columns, rows)},
            figures={"confusion_matrix": partial(_draw_confusion, counts, self._class_names)},
        )


class Rankings(AccumulatorMetric):
    """ROC and precision-recall curves, one class against the rest. It keeps every logit."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._scores = Everything()
        super().__init__(scores=self._scores)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the batch's logits and targets."""
        self._scores.add(rows, outputs["logits"], batch["target"])

    def compute(self) -> Evaluation:
        """A figure of the curves of all classes that some examples have, but not all."""
        logits, targets = (column.cpu() for column in self._scores.found())
        draw = partial(_draw_rankings, logits, targets, self._class_names)
        return Evaluation(
            figures={"roc_and_precision_recall": draw},
            scores=_scores_by_class(logits, targets, self._class_names),
        )


class Calibration(AccumulatorMetric):
    """How often predictions of each confidence are right, from sums by bin in float64."""

    def __init__(self, bins: int = 15) -> None:
        self._number = bins
        self._bins = Sum()
        super().__init__(bins=self._bins)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Sum the batch up, bin by bin."""
        hits = outputs["class"] == batch["target"]
        self._bins.add(_binned(outputs["confidence"], hits, self._number), len(rows))

    def compute(self) -> Evaluation:
        """The bins as table and figure, and their expected calibration error as text."""
        bins = _occupied(self._bins.value)
        columns = ("confidence_above", "confidence_to", "examples", "mean_confidence", "accuracy")
        error = (
            f"Expected calibration error: {calibration_error(bins):.2%} "
            "(mean distance of confidence and accuracy, bin by bin)"
        )
        return Evaluation(
            tables={"calibration": Table(columns, bins)},
            texts={"calibration": error},
            figures={"calibration": partial(_draw_calibration, bins)},
        )


class Examples(NamedTuple):
    """Some inputs (n, ...), as the network read them, its logits (n, classes) and targets (n,)."""

    inputs: Tensor
    logits: Tensor
    targets: Tensor


class Mistakes(Accumulator):
    """The ``most`` examples that were taken for another class with the greatest confidence.

    Inputs of different lengths are padded on the right with ``fill``.
    """

    def __init__(self, most: int, fill: float = 0) -> None:
        self._top = TopK(most, fill)
        self._wrong = Sum()

    @property
    def examples(self) -> int:
        """How many were looked through."""
        return self._wrong.examples

    def add(self, outputs: Outputs, batch: Batch) -> None:
        """Look through a batch."""
        wrong = outputs["class"] != batch["target"]
        self._wrong.add(wrong.sum(), len(wrong))
        # What is right sorts behind whatever is wrong.
        scores = outputs["confidence"].where(wrong, float("-inf"))
        self._top.add(scores, batch["input"], outputs["logits"], batch["target"])

    def found(self) -> tuple[str, Examples]:
        """How many there are, in words, and those kept, the most confident first, on the CPU."""
        worst = Examples(*self._top.found())
        wrong = int(self._wrong.value)
        most = f": the {len(worst.targets)} most confident" if wrong > len(worst.targets) else ""
        return f"{wrong:,} of {self.examples:,} wrong{most}", worst

    def merge(self, other: Self) -> None:
        """Look through the other's."""
        self._top.merge(other._top)
        self._wrong.merge(other._wrong)

    def state_dict(self) -> dict[str, Any]:
        """Those kept, and the counts."""
        return {"top": self._top.state_dict(), "wrong": self._wrong.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from those."""
        self._top.load_state_dict(state["top"])
        self._wrong.load_state_dict(state["wrong"])


class ImageExamples(AccumulatorMetric):
    """Images from all over the split with their predictions, and the most confident mistakes.

    They are the same at every evaluation, and not the first: a split may be in the order of its
    classes.

    ``shown`` turns inputs (n, channels, height, width) into images of values in 0..1, on the CPU.
    """

    def __init__(self, class_names: Sequence[str], shown: Callable[[Tensor], Tensor]) -> None:
        self._class_names, self._shown = class_names, shown
        self._some, self._mistakes = TopK(SAMPLES), Mistakes(SAMPLES)
        super().__init__(some=self._some, mistakes=self._mistakes)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Look through the batch."""
        columns = batch["input"], outputs["logits"], batch["target"]
        self._some.add(spread(rows).to(columns[0].device), *columns)
        self._mistakes.add(outputs, batch)

    def compute(self) -> Evaluation:
        """A figure of each."""
        some = Examples(*self._some.found())
        title, mistakes = self._mistakes.found()
        how = self._class_names, self._shown
        return Evaluation(
            figures={
                "predictions": partial(_draw_images, some, "", *how),
                "mistakes": partial(_draw_images, mistakes, title, *how),
            }
        )


class DecisionBoundary(AccumulatorMetric):
    """What the network says all over the plane that the examples' two features span.

    ``ask`` gives logits (n, classes) for inputs (n, 2); it is asked once, in :meth:`compute`.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        feature_names: Sequence[str],
        ask: Callable[[Tensor], Tensor],
    ) -> None:
        self._class_names, self._ask = class_names, ask
        self._feature_names = feature_names or ("first feature", "second feature")
        self._points = Everything()
        super().__init__(points=self._points)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the batch's points and targets."""
        self._points.add(rows, batch["input"], batch["target"])

    def compute(self) -> Evaluation:
        """A figure of the plane and the points."""
        points, targets = self._points.found()
        plane = Plane.around(points, PLACES)
        logits = self._ask(plane.grid().to(points)).float().cpu()
        names = self._class_names, self._feature_names
        draw = partial(_draw_boundary, plane, logits, points.cpu(), targets.cpu(), *names)
        return Evaluation(figures={"decision_boundary": draw})


def _scores_by_class(
    logits: Tensor, targets: Tensor, class_names: Sequence[str]
) -> dict[str, Callable[[], Scores]]:
    """Those of each class that some examples have; of many classes, those of all together."""
    if len(class_names) > MOST_CURVES:
        return {"all classes": partial(_scores, logits, targets, None)}
    occurring = targets.bincount(minlength=len(class_names)).tolist()
    return {
        name: partial(_scores, logits, targets, number)
        for number, name in enumerate(class_names)
        if 0 < occurring[number] < len(targets)
    }


def _scores(logits: Tensor, targets: Tensor, number: int | None) -> Scores:
    probability = logits.softmax(1)
    if number is not None:
        return Scores(probability[:, number], targets == number)
    positive = functional.one_hot(targets, logits.shape[1]).bool()
    return Scores(probability.flatten(), positive.flatten())


def _draw_confusion(counts: Tensor, class_names: Sequence[str]) -> Figure:
    from dltrain.reports.classes import draw_confusion_matrix

    return draw_confusion_matrix(counts.numpy(), class_names)


def _draw_rankings(logits: Tensor, targets: Tensor, class_names: Sequence[str]) -> Figure:
    from dltrain.reports.probabilities import ClassCurves, draw_rankings

    # Single precision would round the surest to one and the same probability, 1.
    scores = logits.double().log_softmax(1)
    curves = []
    for number, name in enumerate(class_names):
        own = targets == number
        if own.any() and not own.all():
            fpr, recall, precision, *areas = ranking(scores[:, number], own)
            x, y, z = fpr.numpy(), recall.numpy(), precision.numpy()
            curves.append(ClassCurves(name, x, y, z, *areas))
    return draw_rankings(curves)


def _draw_calibration(bins: Sequence[ConfidenceBin]) -> Figure:
    from dltrain.reports.probabilities import draw_calibration

    rows = torch.tensor(bins, dtype=torch.float64).view(-1, len(ConfidenceBin._fields))
    return draw_calibration(rows.numpy(), calibration_error(bins))


def _draw_images(
    examples: Examples, title: str, class_names: Sequence[str], shown: Callable[[Tensor], Tensor]
) -> Figure:
    from dltrain.reports.classes import draw_predictions

    return draw_predictions(
        shown(examples.inputs).permute(0, 2, 3, 1),
        examples.logits.softmax(1).numpy(),
        examples.targets.tolist(),
        class_names,
        title,
    )


def _draw_boundary(
    plane: Plane,
    logits: Tensor,
    points: Tensor,
    targets: Tensor,
    class_names: Sequence[str],
    feature_names: Sequence[str],
) -> Figure:
    from dltrain.reports.boundary import draw_decision_boundary

    return draw_decision_boundary(
        plane,
        logits.softmax(1).numpy(),
        points.numpy(),
        targets.numpy(),
        class_names,
        feature_names,
    )
