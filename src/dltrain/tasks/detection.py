"""Find objects in images: their boxes and classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import (
    Exportable,
    Metrics,
    Monitor,
    Optimize,
    Painted,
    Phase,
    Predictions,
    Task,
)
from dltrain.errors import UserError
from dltrain.metrics.detection import DetectionExamples, MeanAveragePrecision, painted
from dltrain.models.layers.denormalize import Pixels
from dltrain.models.vision.yolo import Cells, channels_and_classes
from dltrain.tasks.finding import Found, in_the_file, suppressed
from dltrain.tasks.losses.detection import Truth, assign, giou_loss, varifocal

LOST = "boxes_lost"


class Finds(Task):
    """What all detectors have in common: what they predict, and how it is evaluated.

    Predictions of at least ``threshold`` are shown; an evaluation takes those above ``lowest``,
    ``most`` an image, as COCO does. Boxes are in pixels of the file's own image.
    """

    monitor = Monitor("map", "max")

    def __init__(
        self, spec: DataSpec, threshold: float = 0.3, lowest: float = 0.001, most: int = 100
    ) -> None:
        super().__init__()
        channels_and_classes(spec)
        if not 0 <= lowest <= threshold <= 1:
            raise ValueError(
                f"lowest and threshold are scores from 0 to 1, the second not below the first; got "
                f"{lowest} and {threshold}"
            )
        if most < 1:
            raise ValueError(f"most must be >= 1, got {most}")
        self.spec = spec
        self.threshold, self.lowest, self.most = threshold, lowest, most
        self.class_names = list(spec.fields["labels"].names)

    def enter(self, phase: Phase) -> None:
        """Raise :class:`UserError` where what evaluates is missing."""
        require_evaluator()

    @abstractmethod
    def find(self, images: Tensor) -> Found:
        """Objects in the images, in pixels of the input."""

    def require_score(self, least: float) -> None:
        """Predict objects of at least that score.

        Raises ValueError for one below ``lowest``, or above 1.
        """
        if not self.lowest <= least <= 1:
            raise ValueError(f"a score is from {self.lowest:g} to 1, got {least:g}")
        self.threshold = least

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """``boxes`` (batch, most, 4), ``labels``, ``score`` and their length; in the file's pixels.

        ``true_boxes`` are those of the data.
        """
        found = self.find(batch["input"])
        return {
            "boxes": in_the_file(found.boxes, batch),
            "labels": found.labels,
            "score": found.scores,
            "boxes_length": found.lengths,
            "true_boxes": in_the_file(batch["boxes"], batch),
        }

    def metrics(self, final: bool) -> Sequence[Metric]:
        """COCO's mean average precision, and images with what was found, missed and made up."""
        require_evaluator()
        return [
            MeanAveragePrecision(self.class_names),
            DetectionExamples(self.class_names, Pixels(self.spec.input).shown, self.threshold),
        ]

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``boxes`` (batch, n, 4), ``labels``, ``score`` (batch, n), the surest first."""
        found = self.find(batch["input"]).above(self.threshold)
        names = tuple(self.class_names)
        labels = Field((None,), "class", size=len(names), names=names, fill=0)
        fields = {
            "boxes": Field((None, 4), "boxes", fill=0.0),
            "labels": labels,
            "score": Field((None,), "number", fill=0.0),
            "boxes_length": Field((), "number"),
        }
        columns = {
            "boxes": in_the_file(found.boxes, batch),
            "labels": found.labels,
            "score": found.scores,
            "boxes_length": found.lengths,
        }
        return Predictions(columns, fields)

    def paint(self, batch: Batch, predictions: Mapping[str, Tensor]) -> list[dict[str, Painted]]:
        """Each image with the boxes found in it, their classes and scores, in the file's size."""
        images = Pixels(self.spec.input).shown(batch["input"])
        return [
            {"": Painted(pixels)}
            for pixels in painted(
                images, batch["image_size"], batch["placement"], predictions, self.class_names
            )
        ]


class Detection(Finds):
    """Train a network of :class:`~dltrain.models.vision.yolo.Cells` to find objects.

    Cells are assigned to objects anew at every step, by
    :func:`~dltrain.tasks.losses.detection.assign` (Feng et al. 2021): the ``candidates`` that suit
    an object best. Classes are learned by the varifocal loss (Zhang et al. 2021), which is to be
    the IoU of a cell's box, boxes by 1 - GIoU (Rezatofighi et al. 2019) times ``box_weight``,
    each cell by its target score; both are means over the sum of these. ``nms`` is the IoU from
    which on two boxes of a class are the same object.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        candidates: int = 10,
        box_weight: float = 2.0,
        nms: float = 0.6,
        threshold: float = 0.3,
        lowest: float = 0.001,
        most: int = 100,
    ) -> None:
        super().__init__(spec, threshold, lowest, most)
        if candidates < 1 or box_weight <= 0:
            raise ValueError(
                f"candidates must be >= 1 and box_weight > 0, got {candidates} and {box_weight}"
            )
        if not 0 < nms <= 1:
            raise ValueError(f"nms is an IoU above 0, up to 1; got {nms}")
        self.model = model
        self.candidates, self.box_weight, self.nms = candidates, box_weight, nms

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean over what the cells are to find."""
        cells = self._cells(batch["input"])
        logits = cells.logits.float()
        places = torch.arange(batch["boxes"].shape[1], device=logits.device)
        there = places < batch["boxes_length"][:, None]
        ignored = batch["ignored"].bool() & there
        truth = Truth(batch["boxes"], batch["labels"], there & ~ignored, ignored)
        goal = assign(
            logits.detach().sigmoid(), cells.boxes.detach(), cells.centers, cells.strides, truth,
            self.candidates,
        )  # fmt: skip
        targets = torch.zeros_like(logits).scatter_(
            2, goal.labels[..., None], goal.scores[..., None]
        )
        # A batch without an object is learned from as one with a single one.
        total = goal.scores.sum().clamp(min=1.0)
        class_loss = (varifocal(logits, targets) * goal.counted[..., None]).sum() / total
        box_loss = (giou_loss(cells.boxes, goal.boxes) * goal.scores).sum() / total
        loss = class_loss + self.box_weight * box_loss
        optimize(loss, weight=total)
        return {
            "loss": loss.detach(),
            "class_loss": class_loss.detach(),
            "box_loss": box_loss.detach(),
            "boxes_lost": _mean(batch),
        }

    def forward(self, batch: Batch) -> Outputs:
        """``logits`` (batch, cells, classes) and ``boxes`` (batch, cells, 4)."""
        cells = self._cells(batch["input"])
        return {"logits": cells.logits, "boxes": cells.boxes}

    def find(self, images: Tensor) -> Found:
        """What is left of all cells' boxes."""
        cells = self._cells(images)
        scores = cells.logits.float().sigmoid()
        return suppressed(cells.boxes.float(), scores, self.lowest, self.nms, self.most)

    def exports(self, examples: Batch) -> dict[str, Exportable]:
        """All cells' boxes and scores, in pixels of the input: what comes before the choice."""
        return {"model": Exportable(EveryCell(self.model, self.class_names), examples)}

    def _cells(self, images: Tensor) -> Cells:
        found = self.model(images)
        if not isinstance(found, Cells):
            raise UserError(
                f"model: {type(self.model).__name__} is no network of cells for task=detection; "
                "model=yolo is one, and torchvision's detectors bring a task of their own."
            )
        return found


class EveryCell(nn.Module):
    """Boxes (batch, cells, 4) and scores (batch, cells, classes) without a choice among them."""

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model, self.names = model, tuple(names)

    def forward(self, images: Tensor) -> Predictions:
        """Predictions of every cell."""
        cells = self.model(images)
        fields = {
            "boxes": Field((None, 4), "boxes"),
            "score": Field((None, len(self.names)), "number", names=self.names),
        }
        return Predictions({"boxes": cells.boxes, "score": cells.logits.sigmoid()}, fields)


def require_evaluator() -> None:
    """Raise :class:`UserError` where the library of COCO's metrics is missing."""
    if find_spec("faster_coco_eval") is None:
        raise UserError(
            "task: evaluating detections needs faster-coco-eval: pip install 'dltrain[detection]'"
        )


def _mean(batch: Batch) -> tuple[Tensor, Tensor]:
    """How many boxes of an image augmentation lost; no value where nothing counts them."""
    lost = batch.get(LOST)
    if lost is None:
        none = batch["input"].new_zeros(())
        return none, none
    return lost.float().mean(), torch.full_like(lost[0], len(lost)).float()
