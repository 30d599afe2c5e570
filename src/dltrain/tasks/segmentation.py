"""Say of each pixel of an image what class it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.colors import colors_of
from dltrain.contracts.data import EXTENT, Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import (
    Exportable,
    Metrics,
    Monitor,
    Optimize,
    Painted,
    Predicting,
    Predictions,
    Task,
)
from dltrain.metrics.examples import PerExample
from dltrain.metrics.painting import painted
from dltrain.metrics.segmentation import (
    BoundaryF1,
    PixelCounts,
    SegmentedImages,
    counted,
    image_miou,
    pixel_confusion,
)
from dltrain.models.layers.denormalize import Pixels
from dltrain.models.layers.tiling import in_tiles
from dltrain.tasks.losses.classification import ClassWeights, weights_of
from dltrain.tasks.losses.segmentation import PixelLoss

IGNORED = 255
"""What pixels of no class have, where the data does not say it."""
WEIGHT = "weight"
"""The column of a map of weights, where the data has one."""


@runtime_checkable
class HasAuxiliary(Protocol):
    """A network with more outputs than one in training."""

    def with_auxiliary(self, images: Tensor) -> list[Tensor]:
        """Logits (batch, classes, h, w) of each; the first is the network's own."""


class Segmentation(Task):
    """A loss of logits (batch, classes, h, w) against masks (batch, h, w) of classes.

    The loss is :class:`~dltrain.tasks.losses.segmentation.PixelLoss`: ``cross_entropy`` and
    ``dice`` are its parts' weights; ``class_weights`` are as in a classification, of pixels; where
    the data has a map of weights, it is added to them. ``auxiliary`` is the weight of the loss of a
    network's second output, which is asked in training alone.

    After training, images with a side of more than ``tile`` pixels are read in tiles that share
    ``overlap`` pixels (null: at once). ``mirrored`` answers with the mean over an image and its
    mirror image, ``turned`` with that over its quarter turns, as the authors of U-Net did where
    nothing has an up and down; both: over eight views. ``boundary`` is the distance in pixels
    within which borders are the same, null: 0.75 % of the diagonal.

    Raises ValueError for targets that are no masks, and for weights that do not fit the classes.
    """

    monitor = Monitor("miou", "max")

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        cross_entropy: float = 1.0,
        dice: float = 0.0,
        focal_gamma: float = 0.0,
        class_weights: ClassWeights = None,
        auxiliary: float = 0.4,
        mirrored: bool = False,
        turned: bool = False,
        tile: int | None = 1024,
        overlap: int = 128,
        boundary: float | None = None,
    ) -> None:
        super().__init__()
        if spec.target.kind != "mask" or spec.input.kind != "image":
            raise ValueError(
                f"a segmentation needs images with masks, and this data has {spec.input.kind} and "
                f"{spec.target.kind}"
            )
        if min(cross_entropy, dice, focal_gamma, auxiliary) < 0 or not cross_entropy + dice:
            raise ValueError(
                "cross_entropy, dice, focal_gamma and auxiliary are not negative, and one of the "
                "first two is above 0"
            )
        if tile is not None and not 0 <= overlap <= tile // 2:
            raise ValueError(f"overlap is from 0 to half of tile, {tile // 2}, got {overlap}")
        if boundary is not None and boundary < 1:
            raise ValueError(f"boundary is at least 1 pixel, got {boundary}")
        self.model, self.spec = model, spec
        target = spec.target
        self.class_names = list(target.names or map(str, range(target.size or 0)))
        self.colors = colors_of(target)
        self.ignored = IGNORED if target.fill is None else int(target.fill)
        weights = None if class_weights is None else weights_of(target, class_weights)
        self.loss = PixelLoss(self.ignored, cross_entropy, dice, weights, focal_gamma)
        self.auxiliary = auxiliary
        self._views = [
            (turns, flipped)
            for turns in (range(4) if turned else (0,))
            for flipped in ((False, True) if mirrored else (False,))
        ]
        """Quarter turns, and whether mirrored before them, of what an answer is the mean of."""
        self.tile, self.overlap, self.boundary = tile, overlap, boundary

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the loss of the batch, of which each counts as much as it has pixels."""
        targets, extra = batch["target"], batch.get(WEIGHT)
        outputs = self._outputs(batch["input"])
        loss = self.loss(outputs[0], targets, extra)
        for other in outputs[1:]:
            loss = loss + self.auxiliary * self.loss(other, targets, extra)
        known = targets != self.ignored
        count = known.sum()
        optimize(loss, weight=count.float())
        right = ((outputs[0].detach().argmax(1) == targets) & known).sum()
        accuracy = right / count.clamp_min(1)
        return {"loss": (loss.detach(), count), "pixel_accuracy": (accuracy, count)}

    def _outputs(self, images: Tensor) -> list[Tensor]:
        if isinstance(self.model, HasAuxiliary):
            return self.model.with_auxiliary(images)
        return [self.model(images)]

    def forward(self, batch: Batch) -> Outputs:
        """``logits`` (batch, classes, h, w); 0 beyond the extent of images that are padded."""
        images = batch["input"]
        if EXTENT not in batch:
            return {"logits": self._logits(images)}
        sizes = [(high, wide) for high, wide in batch[EXTENT].tolist()]
        logits = images.new_zeros(len(images), len(self.class_names), *images.shape[-2:])
        for high, wide in dict.fromkeys(sizes):
            own = [number for number, size in enumerate(sizes) if size == (high, wide)]
            rows = torch.tensor(own, device=images.device)
            found = self._logits(images[rows, :, :high, :wide])
            logits = logits.to(found.dtype)
            logits[rows, :, :high, :wide] = found
        return {"logits": logits}

    def _logits(self, images: Tensor) -> Tensor:
        answers = [self._seen(images, *view) for view in self._views]
        return answers[0] if len(answers) == 1 else torch.stack(answers).mean(0)

    def _seen(self, images: Tensor, turns: int, flipped: bool) -> Tensor:
        """The logits of a view, moved back to where the images have the pixels."""
        view = _turned(images.flip(3) if flipped else images, turns)
        logits = _turned(in_tiles(self.model, view, self.tile, self.overlap), -turns % 4)
        return logits.flip(3) if flipped else logits

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """The ``class`` of each pixel, and of each image ``confusion`` and ``losses``."""
        logits = self.forward(batch)["logits"].float()
        targets = batch["target"]
        losses = functional.cross_entropy(
            logits, targets.long(), ignore_index=self.ignored, reduction="none"
        )
        predicted = logits.argmax(1)
        counts = pixel_confusion(predicted, targets, len(self.class_names))
        return {"class": predicted, "confusion": counts, "losses": losses.sum((1, 2))}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Ratios of pixels, borders, and images to look at."""
        names = self.class_names
        metrics: list[Metric] = [
            PixelCounts(names),
            BoundaryF1(names, self.ignored, self.boundary),
            SegmentedImages(names, self.colors, Pixels(self.spec.input).shown),
        ]
        if final:
            metrics.append(PerExample({"image_miou": image_miou}, counted=counted))
        return metrics

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``mask`` (batch, h, w), how much of each image is of each class, and how sure that is.

        ``confidence`` (batch,) is the mean over an image's pixels of the largest probability.
        """
        chances = self._chances(batch)
        confidence, predicted = chances.max(1)
        classes = len(self.class_names)
        of_class = [(predicted == number).float().mean((1, 2)) for number in range(classes)]
        names = tuple(self.class_names)
        columns = {
            "mask": predicted.to(torch.uint8),
            "fraction": torch.stack(of_class, 1),
            "confidence": confidence.mean((1, 2)),
        }
        fields = {
            "mask": self._mask_field(),
            "fraction": Field((classes,), "number", names=names),
            "confidence": Field((), "number"),
        }
        return Predictions(columns, fields)

    def paint(self, batch: Batch, predictions: Mapping[str, Tensor]) -> list[dict[str, Painted]]:
        """Each image with its mask painted over it; and the mask alone."""
        shown = Pixels(self.spec.input).shown(batch["input"].cpu())
        masks = predictions["mask"]
        over = painted(shown, masks, self.colors)
        return [
            {"": Painted(image), "mask": Painted(mask, self.colors)}
            for image, mask in zip(over, masks, strict=True)
        ]

    def exports(self, examples: Batch) -> Mapping[str, Exportable]:
        """One network: ``mask`` and, of each class, ``probability`` (batch, classes, h, w)."""
        network = Predicting(Probabilities(self), list(examples))
        return {"model": Exportable(network, examples)}

    def _chances(self, batch: Batch) -> Tensor:
        return self.forward(batch)["logits"].float().softmax(1)

    def _mask_field(self) -> Field:
        names = tuple(self.class_names)
        colors = tuple(self.colors)
        return Field(
            (None, None), "mask", size=len(names), names=names, fill=self.ignored, colors=colors
        )


def _turned(images: Tensor, turns: int) -> Tensor:
    """As ``torch.rot90`` over the last two dimensions, which ONNX lacks."""
    turned = images.flip(2, 3) if turns >= 2 else images
    return turned.transpose(2, 3).flip(2) if turns % 2 else turned


class Probabilities(nn.Module):
    """What a segmentation predicts, with the probabilities of every pixel."""

    def __init__(self, task: Segmentation) -> None:
        super().__init__()
        self.task = task

    def predict(self, batch: Batch) -> Predictions:
        """``mask`` (batch, h, w) and ``probability`` (batch, classes, h, w)."""
        chances = self.task._chances(batch)
        names = tuple(self.task.class_names)
        fields = {
            "mask": self.task._mask_field(),
            "probability": Field((len(names), None, None), "number", names=names),
        }
        return Predictions({"mask": chances.argmax(1), "probability": chances}, fields)
