"""Say which of several classes an example belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.figures.plane import Plane
from dltrain.metrics import (
    ClassificationReport,
    ConfidenceBin,
    calibration,
    calibration_error,
    classification_report,
    confusion_matrix,
)
from dltrain.tasks.judged import Examples, Judged, Mistakes
from dltrain.tasks.views import mean_over_views
from dltrain.types import Batch, Evaluation, Metrics, Monitor, Optimize, Table, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 16
PICTURES = 4
"""Dimensions of a batch of them."""
PLACES = 80
"""How finely each side of a plane of two features is looked at."""


class Classification(Task):
    """Cross-entropy over logits (batch, classes) against integer targets (batch,).

    In training, a target may also be probabilities (batch, classes), as mixed pictures have;
    accuracy then asks for the likeliest class.

    ``label_smoothing`` moves that share of each target's weight evenly to all classes
    (Szegedy et al. 2016, section 7); it acts in training only. ``mirrored`` and ``shifted`` act
    after it only: answers to pictures are means over views
    (:func:`~dltrain.tasks.views.mean_over_views`).

    Raises ValueError for what is no share, and for views of what is no picture.
    """

    monitor = Monitor("accuracy", "max")
    recordable = True
    probabilistic = True
    """Whether the loss makes the softmax a probability; only then is there a calibration."""

    def __init__(
        self,
        model: nn.Module,
        class_names: Sequence[str],
        label_smoothing: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        feature_names: Sequence[str] | None = None,
        input_shape: Sequence[int] | None = None,
        mirrored: bool = False,
        shifted: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is a share from 0 to below 1, got {label_smoothing}")
        if shifted < 0:
            raise ValueError(f"shifted is a number of pixels, not negative; got {shifted}")
        if (mirrored or shifted) and len(input_shape or ()) != 3:
            raise ValueError("only pictures have views: mirrored=false and shifted=0")
        self.model = model
        self.mirrored, self.shifted = mirrored, shifted
        self.class_names = list(class_names)
        self.label_smoothing = label_smoothing
        self.mean, self.std = mean, std
        self.feature_names = feature_names

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimise the mean cross-entropy of the batch."""
        logits, targets = self.model(batch["input"]), batch["target"]
        loss = self.loss(logits, targets)
        optimize(loss)
        return self.training_metrics(loss, logits, targets)

    def loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy that training minimises, 0-d."""
        return functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def training_metrics(self, loss: Tensor, logits: Tensor, targets: Tensor) -> Metrics:
        """What a training step tells: its loss, and the share of the batch that is right."""
        likeliest = targets.argmax(1) if targets.is_floating_point() else targets
        hits = logits.detach().argmax(1) == likeliest
        return {"loss": loss.detach(), "accuracy": hits.mean(dtype=torch.float32)}

    def predict(self, batch: Batch) -> Tensor:
        """Logits (batch, classes)."""
        if not (self.mirrored or self.shifted):
            return self.model(batch["input"])
        return mean_over_views(self.model, batch["input"], self.mirrored, self.shifted)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Mean cross-entropy, accuracy, and the ratios of each class over the whole split."""
        return self.judge(batches)

    def judge(
        self, batches: Iterable[Batch], look: Callable[[Examples], None] | None = None
    ) -> Evaluation:
        """What :meth:`evaluate` returns; ``look`` sees each batch with its logits, in float32.

        The batches' logits are gathered where they are, and fetched once.
        """
        classes = len(self.class_names)
        losses: list[Tensor] = []
        answers: list[Tensor] = []
        truths: list[Tensor] = []
        points: list[Tensor] = []
        first: Examples | None = None
        mistakes = Mistakes(SAMPLES)
        for batch in batches:
            inputs, targets = batch["input"], batch["target"]
            logits = self.predict(batch).float()
            losses.append(functional.cross_entropy(logits, targets, reduction="sum"))
            answers.append(logits)
            truths.append(targets)
            examples = Examples(inputs, logits, targets)
            if look is not None:
                look(examples)
            if inputs.ndim == PICTURES:
                # Copies: a slice would keep the whole batch.
                first = first or Examples(
                    inputs[:SAMPLES].clone(), logits[:SAMPLES], targets[:SAMPLES]
                )
                mistakes.add(examples)
            elif inputs.shape[1:] == (2,) and inputs.is_floating_point():
                points.append(inputs)
        assert answers, "an empty split"
        logits, targets = torch.cat(answers), torch.cat(truths)
        confidence, predicted = logits.softmax(1).max(1)
        counts = confusion_matrix(predicted, targets, classes).cpu()
        report = classification_report(counts)
        judged = Judged(logits.cpu(), targets.cpu(), counts, self.class_names)
        figures: dict[str, Callable[[], Figure]] = {
            "confusion_matrix": judged.confusion,
            "roc_and_precision_recall": judged.rankings,
        }
        tables, texts = {"per_class": self._per_class(report)}, {}
        if self.probabilistic:
            bins = calibration(confidence, predicted == targets)
            figures["calibration"] = partial(judged.calibration, bins)
            tables["calibration"] = _table(bins)
            texts["calibration"] = _error(bins)
        if first is not None:
            figures["predictions"] = partial(self._draw_pictures, first)
            figures["mistakes"] = partial(self._draw_mistakes, judged, mistakes)
        if points:
            figures["decision_boundary"] = self._boundary(judged, torch.cat(points))
        return Evaluation(
            scalars={
                "loss": math.fsum(torch.stack(losses).tolist()) / len(targets),
                "accuracy": report.accuracy,
                "precision": report.macro_precision,
                "recall": report.macro_recall,
                "f1": report.macro_f1,
            },
            tables=tables,
            texts=texts,
            figures=figures,
        )

    def _boundary(self, judged: Judged, points: Tensor) -> Callable[[], Figure]:
        """Ask the network about the plane of ``points`` (n, 2), now, and draw it later."""
        plane = Plane.around(points, PLACES)
        logits = self.predict({"input": plane.grid().to(points)}).float().cpu()
        names = self.feature_names or ("first feature", "second feature")
        return partial(judged.boundary, plane, logits, points.cpu(), names)

    def _draw_mistakes(self, judged: Judged, mistakes: Mistakes) -> Figure:
        worst = mistakes.worst()
        total = len(judged.targets)
        wrong = total - int(judged.counts.trace())
        most = f": the {len(worst.targets)} most confident" if wrong > len(worst.targets) else ""
        return self._draw_pictures(worst, title=f"{wrong:,} of {total:,} wrong{most}")

    def _draw_pictures(self, pictures: Examples, title: str = "") -> Figure:
        from dltrain.figures.classes import draw_predictions

        return draw_predictions(
            self._displayable(pictures.inputs),
            pictures.logits.softmax(1).cpu().numpy(),
            pictures.targets.tolist(),
            self.class_names,
            title,
        )

    def _per_class(self, report: ClassificationReport) -> Table:
        columns = zip(
            self.class_names,
            report.precision,
            report.recall,
            report.f1,
            report.support,
            strict=True,
        )
        return Table(("class", "precision", "recall", "f1", "support"), list(columns))

    def _displayable(self, pictures: Tensor) -> Tensor:
        """Undo the source's normalisation: values in 0..1, channels last."""
        pictures = pictures.float().cpu()
        if self.mean is not None and self.std is not None:
            std, mean = torch.tensor(self.std), torch.tensor(self.mean)
            pictures = pictures * std[:, None, None] + mean[:, None, None]
        return pictures.clamp(0, 1).permute(0, 2, 3, 1)


def _table(bins: Sequence[ConfidenceBin]) -> Table:
    columns = ("confidence_above", "confidence_to", "examples", "mean_confidence", "accuracy")
    return Table(columns, bins)


def _error(bins: Sequence[ConfidenceBin]) -> str:
    return (
        f"Expected calibration error: {calibration_error(bins):.2%} "
        "(mean distance of confidence and accuracy, bin by bin)"
    )
