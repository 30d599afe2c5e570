"""Say which of several classes an example belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.metrics import ClassificationReport, classification_report, confusion_matrix
from dltrain.types import Batch, Evaluation, Metrics, Monitor, Optimize, Table, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 16


class Classification(Task):
    """Cross-entropy over logits (batch, classes) against integer targets (batch,).

    In training, a target may also be probabilities (batch, classes), as mixed pictures have;
    accuracy then asks for the likeliest class.

    ``label_smoothing`` moves that share of each target's weight evenly to all classes
    (Szegedy et al. 2016, section 7); it acts in training only.
    """

    monitor = Monitor("accuracy", "max")

    def __init__(
        self,
        model: nn.Module,
        class_names: Sequence[str],
        label_smoothing: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is a share from 0 to below 1, got {label_smoothing}")
        self.model = model
        self.class_names = list(class_names)
        self.label_smoothing = label_smoothing
        self.mean, self.std = mean, std

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimise the mean cross-entropy of the batch."""
        logits = self.model(batch["input"])
        targets = batch["target"]
        loss = functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        optimize(loss)
        likeliest = targets.argmax(1) if targets.is_floating_point() else targets
        hits = logits.detach().argmax(1) == likeliest
        return {"loss": loss.detach(), "accuracy": hits.mean(dtype=torch.float32)}

    def predict(self, batch: Batch) -> Tensor:
        """Logits (batch, classes)."""
        return self.model(batch["input"])

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Mean cross-entropy, accuracy, and the ratios of each class over the whole split."""
        classes = len(self.class_names)
        losses: list[Tensor] = []
        confusion: Tensor | int = 0
        count = 0
        first: tuple[Batch, Tensor] | None = None
        for batch in batches:
            logits = self.predict(batch).float()
            targets = batch["target"]
            losses.append(functional.cross_entropy(logits, targets, reduction="sum"))
            confusion = confusion + confusion_matrix(logits.argmax(1), targets, classes)
            count += len(targets)
            first = first or (batch, logits)
        assert isinstance(confusion, Tensor) and first is not None, "an empty split"
        report = classification_report(confusion.cpu())
        inputs, logits = first[0]["input"][:SAMPLES], first[1][:SAMPLES]
        targets = first[0]["target"][:SAMPLES]
        counts = confusion.cpu()

        def draw_confusion() -> Figure:
            from dltrain.figures.classes import draw_confusion_matrix

            return draw_confusion_matrix(counts.numpy(), self.class_names)

        def draw_samples() -> Figure:
            from dltrain.figures.classes import draw_predictions

            probabilities = logits.softmax(1).cpu()
            return draw_predictions(
                self._displayable(inputs), probabilities.numpy(), targets.tolist(), self.class_names
            )

        return Evaluation(
            scalars={
                "loss": math.fsum(torch.stack(losses).tolist()) / count,
                "accuracy": report.accuracy,
                "precision": report.macro_precision,
                "recall": report.macro_recall,
                "f1": report.macro_f1,
            },
            tables={"per_class": self._per_class(report)},
            figures={"confusion_matrix": draw_confusion}
            | ({"predictions": draw_samples} if inputs.ndim == 4 else {}),
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
