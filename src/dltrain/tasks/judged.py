"""A whole split as a classifier saw it, and what can be drawn of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.figures.plane import Plane
from dltrain.metrics import ConfidenceBin, calibration_error, ranking

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEQUENCES = 2
"""Dimensions of a batch of them."""


class Examples(NamedTuple):
    """Some inputs (n, ...), as the network read them, its logits (n, classes) and targets (n,)."""

    inputs: Tensor
    logits: Tensor
    targets: Tensor


class Foremost:
    """The ``most`` examples of a split that score highest.

    Nothing but those is kept, and they stay on the device until somebody asks. Sequences
    (n, time) of different lengths are filled up with ``filler``.
    """

    def __init__(self, most: int, filler: float = 0) -> None:
        self._most, self._filler = most, filler
        self._kept: tuple[Tensor, ...] = ()

    def add(self, scores: Tensor, examples: Examples) -> None:
        """Look through a batch; ``scores`` are (n,), and none is kept that is below 0."""
        chosen = _highest((scores, *examples), self._most)
        if self._kept:
            pairs = zip(self._kept, chosen, strict=True)
            joined = tuple(_joined(one, other, self._filler) for one, other in pairs)
            chosen = _highest(joined, self._most)
        self._kept = chosen

    def found(self) -> Examples:
        """Those found, the highest first, on the CPU."""
        scores, *columns = (column.cpu() for column in self._kept)
        return Examples(*(column[scores >= 0] for column in columns))


class Mistakes:
    """The ``most`` examples that were taken for another class with the greatest confidence."""

    def __init__(self, most: int, filler: float = 0) -> None:
        self._foremost = Foremost(most, filler)

    def add(self, examples: Examples) -> None:
        """Look through a batch."""
        confidence, predicted = examples.logits.softmax(1).max(1)
        # What is right sorts behind whatever is wrong.
        self._foremost.add(confidence.where(predicted != examples.targets, -1.0), examples)

    def worst(self) -> Examples:
        """Those found, the most confident first, on the CPU."""
        return self._foremost.found()


def _highest(columns: tuple[Tensor, ...], most: int) -> tuple[Tensor, ...]:
    """The rows of ``columns`` in which the first is greatest, in that order."""
    chosen = columns[0].topk(min(most, len(columns[0]))).indices
    return tuple(column.index_select(0, chosen) for column in columns)


def _joined(one: Tensor, other: Tensor, filler: float) -> Tensor:
    """Both, one below the other."""
    missing = one.shape[1] - other.shape[1] if one.ndim == SEQUENCES else 0
    if missing > 0:
        other = functional.pad(other, (0, missing), value=filler)
    elif missing < 0:
        one = functional.pad(one, (0, -missing), value=filler)
    return torch.cat((one, other))


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
