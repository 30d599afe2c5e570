"""What a segmentation is evaluated by: counts of pixels, borders, and images to look at.

The metrics read three columns of outputs: ``class`` (batch, h, w), the most probable of each pixel;
``confusion`` (batch, classes, classes), how many pixels of each true class (row) were taken for
each class (column); ``losses`` (batch,), the summed cross-entropy of its pixels. The batch has
``input`` (batch, c, h, w) and ``target`` (batch, h, w); pixels of ``ignored`` count nowhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Mode, Outputs, Table
from dltrain.metrics.accumulators import AccumulatorMetric, Sum, TopK, double, spread
from dltrain.metrics.painting import painted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 6
"""Images of a figure."""
TOLERANCE = 0.0075
"""Of an image's diagonal: how far apart borders may be that are the same (Csurka et al. 2013)."""


def pixel_confusion(predicted: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Count pixels (batch, classes, classes): rows are the true classes, columns the predicted.

    ``predicted`` and ``targets`` are (batch, h, w); targets beyond the classes count nowhere.
    """
    wide = classes * classes + 1
    flat = targets.long().flatten(1) * classes + predicted.long().flatten(1)
    flat = flat.where(targets.flatten(1) < classes, wide - 1)
    rows = torch.arange(len(flat), device=flat.device)[:, None] * wide
    counts = torch.zeros(len(flat) * wide, dtype=torch.int64, device=flat.device)
    counts.index_add_(0, (flat + rows).flatten(), torch.ones_like(flat).flatten())
    return counts.view(len(flat), wide)[:, :-1].reshape(-1, classes, classes)


def ratios(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """IoU and Dice (…, classes) of counts (…, classes, classes), and which classes occur.

    A class occurs where it is true of a pixel or was predicted for one; others have NaN.
    """
    counts = double(confusion)
    hits = counts.diagonal(dim1=-2, dim2=-1)
    sizes = counts.sum(-1) + counts.sum(-2)
    occurs = sizes > 0
    nothing = torch.full_like(hits, math.nan)
    iou = torch.where(occurs, hits / (sizes - hits).clamp_min(1), nothing)
    dice = torch.where(occurs, 2 * hits / sizes.clamp_min(1), nothing)
    return iou, dice, occurs


def image_miou(outputs: Outputs, batch: Batch) -> Tensor:
    """Of each image (batch,) the mean IoU of the classes that occur in it; NaN where none does."""
    iou, _, _ = ratios(outputs["confusion"])
    return iou.nanmean(-1)


def counted(outputs: Outputs, batch: Batch) -> Tensor:
    """Which images (batch,) have a pixel that is not ignored."""
    return outputs["confusion"].sum((1, 2)) > 0


class PixelCounts(AccumulatorMetric):
    """Cross-entropy, pixel accuracy, mean IoU and Dice, from counts of pixels alone.

    The means are over the classes that occur among targets or predictions of the whole split.
    ``image_miou`` is the mean of :func:`image_miou` over the images that have a pixel to count.
    """

    names = ("loss", "pixel_accuracy", "miou", "dice", "image_miou")
    better: Mapping[str, Mode] = {"loss": "min", **dict.fromkeys(names[1:], "max")}

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = class_names
        self._counts, self._losses, self._images = Sum(), Sum(), Sum()
        super().__init__(counts=self._counts, losses=self._losses, images=self._images)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Count the batch's pixels."""
        self._counts.add(outputs["confusion"].sum(0), len(rows))
        self._losses.add(double(outputs["losses"]).sum(), len(rows))
        some, each = counted(outputs, batch), image_miou(outputs, batch)
        self._images.add(torch.stack([each.nansum(), double(some).sum()]), len(rows))

    def compute(self) -> Evaluation:
        """The ratios, a table of the classes, and the counts as a figure."""
        counts = self._counts.value.cpu()
        pixels = int(counts.sum())
        iou, dice, _ = ratios(counts)
        hits, support, predicted = counts.diagonal(), counts.sum(1), counts.sum(0)
        rows: list[list[str | int | float]] = []
        for number, name in enumerate(self._class_names):
            rows.append(
                [
                    name,
                    int(support[number]),
                    float(iou[number]),
                    float(dice[number]),
                    int(hits[number]) / max(1, int(predicted[number])),
                    int(hits[number]) / max(1, int(support[number])),
                ]
            )
        columns = ("class", "pixels", "iou", "dice", "precision", "recall")
        total, images = self._images.value.tolist()
        scalars = {
            "loss": float(self._losses.value) / max(1, pixels),
            "pixel_accuracy": int(hits.sum()) / max(1, pixels),
            "miou": float(iou.nanmean()),
            "dice": float(dice.nanmean()),
            "image_miou": total / images if images else math.nan,
        }
        return Evaluation(
            scalars=scalars,
            weights={"loss": pixels},
            tables={"pixels": Table(columns, rows)},
            figures={"confusion": partial(_draw_confusion, counts, self._class_names)},
        )


class BoundaryF1(AccumulatorMetric):
    """How well the borders of each class are met (Csurka et al. 2013).

    Of each image, precision is the fraction of the predicted border pixels of a class that have a
    true one within ``tolerance`` pixels (None: 0.75 % of the diagonal), recall the fraction of the
    true ones that have a predicted one. F1 is averaged over the images in which the class has a
    border, and then over the classes. Where a class meets ignored pixels or the image's edge, there
    is no border.
    """

    names = ("boundary_f1",)
    better: Mapping[str, Mode] = dict.fromkeys(names, "max")

    def __init__(
        self, class_names: Sequence[str], ignored: int, tolerance: float | None = None
    ) -> None:
        self._class_names, self._ignored, self._tolerance = class_names, ignored, tolerance
        self._sums = Sum()
        super().__init__(sums=self._sums)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Compare the borders of the batch, class by class."""
        targets = batch["target"].long()
        # What is ignored is ignored in both, so that it makes no border of its own.
        predicted = outputs["class"].long().where(targets != self._ignored, self._ignored)
        height, width = targets.shape[-2:]
        tolerance = self._tolerance
        if tolerance is None:
            tolerance = max(1.0, TOLERANCE * math.hypot(height, width))
        kernel = _disc(tolerance, targets.device)
        true_edges = edges(targets, self._ignored)
        own_edges = edges(predicted, self._ignored)
        sums = []
        for number in range(len(self._class_names)):
            true = ((targets == number) & true_edges).float()
            own = ((predicted == number) & own_edges).float()
            near_true, near_own = (_near(border, kernel) for border in (true, own))
            precision = (own * near_true).sum((1, 2)) / own.sum((1, 2)).clamp_min(1)
            recall = (true * near_own).sum((1, 2)) / true.sum((1, 2)).clamp_min(1)
            f1 = 2 * precision * recall / (precision + recall).clamp_min(1e-12)
            occurs = (true.sum((1, 2)) + own.sum((1, 2))) > 0
            sums.append(torch.stack([double(f1 * occurs).sum(), double(occurs).sum()]))
        self._sums.add(torch.stack(sums), len(rows))

    def compute(self) -> Evaluation:
        """The mean over the classes, and a table of them."""
        sums = self._sums.value.cpu()
        f1 = sums[:, 0] / sums[:, 1]
        rows: list[list[str | int | float]] = [
            [name, int(images), float(value)]
            for name, images, value in zip(self._class_names, sums[:, 1], f1, strict=True)
        ]
        columns = ("class", "images", "boundary_f1")
        mean = float(f1.nanmean())
        return Evaluation({"boundary_f1": mean}, {"boundaries": Table(columns, rows)})


def edges(masks: Tensor, ignored: int) -> Tensor:
    """Which pixels (batch, h, w) have one of another class beside them, above or below.

    What is ``ignored`` is no class, and makes no edge.
    """
    found = torch.zeros_like(masks, dtype=torch.bool)
    for axis in (1, 2):
        one = masks.narrow(axis, 0, masks.shape[axis] - 1)
        other = masks.narrow(axis, 1, masks.shape[axis] - 1)
        apart = (one != other) & (one != ignored) & (other != ignored)
        found.narrow(axis, 0, apart.shape[axis]).logical_or_(apart)
        found.narrow(axis, 1, apart.shape[axis]).logical_or_(apart)
    return found


def _disc(radius: float, device: torch.device) -> Tensor:
    reach = math.floor(radius)
    along = torch.arange(-reach, reach + 1, device=device)
    inside = along[:, None] ** 2 + along**2 <= radius**2
    return inside.float()[None, None]


def _near(border: Tensor, kernel: Tensor) -> Tensor:
    """Where (batch, h, w) a border pixel is within the kernel."""
    return (functional.conv2d(border[:, None], kernel, padding="same")[:, 0] > 0.5).float()


class SegmentedImages(AccumulatorMetric):
    """Images from all over the split with their masks, and those with the most wrong pixels.

    ``shown`` turns inputs into images of values in 0..1, on the CPU.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        colors: Sequence[Sequence[int]],
        shown: Callable[[Tensor], Tensor],
    ) -> None:
        self._class_names, self._colors, self._shown = class_names, colors, shown
        self._some, self._worst = TopK(SHOWN), TopK(SHOWN)
        super().__init__(some=self._some, worst=self._worst)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Look through the batch."""
        counts = outputs["confusion"]
        right = counts.diagonal(dim1=1, dim2=2).sum(1) / counts.sum((1, 2)).clamp_min(1)
        columns = batch["input"], outputs["class"].to(torch.uint8), batch["target"], right
        self._some.add(spread(rows).to(right.device), *columns)
        mistaken = counted(outputs, batch) & (right < 1)
        wrong = (1 - right).where(mistaken, float("-inf"))
        self._worst.add(wrong, *columns)

    def compute(self) -> Evaluation:
        """A figure of each."""
        figures: dict[str, Callable[[], Figure]] = {}
        for name, kept in (("predictions", self._some), ("worst_images", self._worst)):
            inputs, predicted, targets, right = kept.found()
            if len(inputs):
                figures[name] = partial(self._draw, inputs, predicted, targets, right.tolist())
        return Evaluation(figures=figures)

    def _draw(
        self, inputs: Tensor, predicted: Tensor, targets: Tensor, right: Sequence[float]
    ) -> Figure:
        from dltrain.reports.masks import draw_masks

        images = self._shown(inputs)
        rows = {
            "image": painted(images, torch.full_like(targets, len(self._colors)), self._colors),
            "true": painted(images, targets, self._colors),
            "predicted": painted(images, predicted, self._colors),
        }
        return draw_masks(
            {name: pixels.numpy() for name, pixels in rows.items()},
            [f"{value:.1%}" for value in right],
            self._class_names,
            self._colors,
        )


def _draw_confusion(counts: Tensor, class_names: Sequence[str]) -> Figure:
    from dltrain.reports.masks import draw_pixel_confusion

    return draw_pixel_confusion(counts.numpy(), class_names)
