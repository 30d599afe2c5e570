"""A whole split as a classifier saw it, and what can be drawn of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from dltrain.figures.plane import Plane
from dltrain.metrics import ConfidenceBin, calibration_error, ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Pictures(NamedTuple):
    """Some pictures (n, channels, height, width), as the network read them, with its logits."""

    inputs: Tensor
    logits: Tensor
    targets: Tensor


class Mistakes:
    """The ``most`` pictures that were taken for another class with the greatest confidence.

    Nothing but those is kept, and they stay on the device until somebody asks.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: tuple[Tensor, ...] = ()

    def add(self, inputs: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Look through a batch."""
        confidence, predicted = logits.softmax(1).max(1)
        # What is right sorts behind whatever is wrong.
        confidence = confidence.where(predicted != targets, -1.0)
        chosen = _highest((confidence, inputs, logits, targets), self._most)
        if self._kept:
            pairs = zip(self._kept, chosen, strict=True)
            chosen = _highest(tuple(torch.cat(pair) for pair in pairs), self._most)
        self._kept = chosen

    def worst(self) -> Pictures:
        """Those found, the most confident first, on the CPU."""
        confidence, *columns = (column.cpu() for column in self._kept)
        return Pictures(*(column[confidence >= 0] for column in columns))


def _highest(columns: tuple[Tensor, ...], most: int) -> tuple[Tensor, ...]:
    """The rows of ``columns`` in which the first is greatest, in that order."""
    chosen = columns[0].topk(min(most, len(columns[0]))).indices
    return tuple(column.index_select(0, chosen) for column in columns)


@dataclass(frozen=True, eq=False)
class Judged:
    """Logits (n, classes), targets (n,) and counts (classes, classes) of a split, on the CPU."""

    logits: Tensor
    targets: Tensor
    counts: Tensor
    class_names: Sequence[str]

    def confusion(self) -> Figure:
        """Which class is taken for which."""
        from dltrain.figures.classes import draw_confusion_matrix

        return draw_confusion_matrix(self.counts.numpy(), self.class_names)

    def rankings(self) -> Figure:
        """ROC and precision-recall curves of the classes that some examples have, but not all."""
        from dltrain.figures.probabilities import ClassCurves, draw_rankings

        # Single precision would round the surest to one and the same probability, 1.
        scores = self.logits.double().log_softmax(1)
        curves = []
        for number, name in enumerate(self.class_names):
            own = self.targets == number
            if own.any() and not own.all():
                fpr, recall, precision, *areas = ranking(scores[:, number], own)
                x, y, z = fpr.numpy(), recall.numpy(), precision.numpy()
                curves.append(ClassCurves(name, x, y, z, *areas))
        return draw_rankings(curves)

    def calibration(self, bins: Sequence[ConfidenceBin]) -> Figure:
        """The accuracy of each bin against its confidence."""
        from dltrain.figures.probabilities import draw_calibration

        rows = torch.tensor(bins, dtype=torch.float64).view(-1, len(ConfidenceBin._fields))
        return draw_calibration(rows.numpy(), calibration_error(bins))

    def boundary(
        self, plane: Plane, logits: Tensor, points: Tensor, feature_names: Sequence[str]
    ) -> Figure:
        """The plane that the split's ``points`` (n, 2) lie in; ``logits`` are of its grid."""
        from dltrain.figures.boundary import draw_decision_boundary

        return draw_decision_boundary(
            plane,
            logits.softmax(1).numpy(),
            points.numpy(),
            self.targets.numpy(),
            self.class_names,
            feature_names,
        )
