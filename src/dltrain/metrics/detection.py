"""How well objects are found: COCO's mean average precision, and images to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Outputs, Table
from dltrain.metrics.accumulators import Accumulator, AccumulatorMetric, TopK, spread
from dltrain.metrics.overlap import pairwise_iou

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self

SHOWN = 12
"""Images of a figure."""
SAME = 0.5
"""The IoU from which on a box counts as found, in figures."""
MOST_CURVES = 12
"""Classes that have a curve of their own."""
HALF, QUARTERS = 0, 5
"""Where IoU 0.5 and 0.75 stand among COCO's ten."""


class Part(NamedTuple):
    """A batch, padded: what was found, and what is there."""

    rows: Tensor
    boxes: Tensor
    labels: Tensor
    scores: Tensor
    lengths: Tensor
    true_boxes: Tensor
    true_labels: Tensor
    ignored: Tensor
    true_lengths: Tensor


def part_of(outputs: Outputs, batch: Batch, rows: Tensor) -> Part:
    """What metrics keep of a batch."""
    return Part(
        rows, outputs["boxes"], outputs["labels"], outputs["score"], outputs["boxes_length"],
        outputs["true_boxes"], batch["labels"], batch["ignored"], batch["boxes_length"],
    )  # fmt: skip


class Parts(Accumulator):
    """Batches as they came, however widely each is padded."""

    def __init__(self) -> None:
        self._parts: list[Part] = []

    def add(self, part: Part) -> None:
        """Keep a batch."""
        self._parts.append(part)

    def found(self) -> Iterator[Part]:
        """Each, on the CPU."""
        for part in self._parts:
            yield Part(*(column.cpu() for column in part))

    def merge(self, other: Self) -> None:
        self._parts += other._parts

    def state_dict(self) -> dict[str, Any]:
        """The columns of each part."""
        return {"parts": [list(part) for part in self._parts]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._parts = [Part(*columns) for columns in state["parts"]]


class MeanAveragePrecision(AccumulatorMetric):
    """COCO's metrics of boxes, as its own evaluation computes them, by faster-coco-eval.

    ``map`` is the mean over classes and over IoUs from 0.5 to 0.95, ``map_50`` and ``map_75`` are
    at one IoU; ``recall`` is the mean of what the 100 surest boxes of an image find, over the same
    IoUs. Objects that are ``ignored`` are COCO's crowds: whatever lies in them is neither right nor
    wrong. A class that nothing is of has no figure, and counts in no mean.
    """

    names = ("map", "map_50", "map_75", "recall")
    better = dict.fromkeys(names, "max")

    def __init__(self, class_names: Sequence[str]) -> None:
        self._class_names = list(class_names)
        self._parts = Parts()
        super().__init__(parts=self._parts)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the batch's boxes."""
        self._parts.add(part_of(outputs, batch, rows))

    def compute(self) -> Evaluation:
        """Scalars, a table and curves by class."""
        truth, found = as_coco(list(self._parts.found()), len(self._class_names))
        precision, recall = evaluated(truth, found)
        counts = [0] * len(self._class_names)
        for one in truth["annotations"]:
            counts[one["category_id"] - 1] += not one["iscrowd"]
        # (IoU, recall, class): of all areas, of 100 boxes an image.
        rows: list[list[str | int]] = []
        for place, name in enumerate(self._class_names):
            own = precision[:, :, place]
            rows.append(
                [name, counts[place], *map(_shown, (
                    _mean(own), _mean(own[HALF]), _mean(own[QUARTERS]), _mean(recall[:, place]),
                ))]
            )  # fmt: skip
        scalars = {
            "map": _mean(precision),
            "map_50": _mean(precision[HALF]),
            "map_75": _mean(precision[QUARTERS]),
            "recall": _mean(recall),
        }
        columns = ["class", "objects", "ap", "ap_50", "ap_75", "recall"]
        draw = partial(_draw_curves, precision[HALF], self._class_names)
        return Evaluation(
            scalars, tables={"classes": Table(columns, rows)}, figures={"precision_recall": draw}
        )


class DetectionExamples(AccumulatorMetric):
    """Images with what is found in them, missed and made up: some, and those with most mistakes.

    Predictions of at least ``threshold`` are drawn. ``shown`` turns inputs (n, channels, height,
    width) into images of values in 0..1, on the CPU.
    """

    def __init__(
        self,
        class_names: Sequence[str],
        shown: Callable[[Tensor], Tensor],
        threshold: float,
        most: int = SHOWN,
    ) -> None:
        self._class_names, self._shown, self._threshold = class_names, shown, threshold
        self._some, self._worst = TopK(most), TopK(most)
        super().__init__(some=self._some, worst=self._worst)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Look through the batch."""
        part = part_of(outputs, batch, rows)
        columns = batch["input"], batch["placement"], *part[1:]
        self._some.add(spread(rows).to(part.boxes.device), *columns)
        self._worst.add(mistakes(part, self._threshold), *columns)

    def compute(self) -> Evaluation:
        """A figure of each."""
        how = self._class_names, self._shown, self._threshold
        return Evaluation(
            figures={
                "detections": partial(_draw_images, self._some.found(), *how),
                "worst_images": partial(_draw_images, self._worst.found(), *how),
            }
        )


def mistakes(part: Part, threshold: float) -> Tensor:
    """How many objects of each image (batch,) are missed, and how many made up; -inf for none."""
    there = _real(part.true_boxes, part.true_lengths) & ~part.ignored.bool()
    said = _real(part.boxes, part.lengths) & (part.scores >= threshold)
    alike = part.true_labels[:, :, None] == part.labels[:, None]
    close = pairwise_iou(part.true_boxes, part.boxes) >= SAME
    hit = (close & alike & there[:, :, None] & said[:, None]).any(2).sum(1)
    wrong = (there.sum(1) - hit) + (said.sum(1) - hit)
    return wrong.float().masked_fill(wrong == 0, float("-inf"))


def painted(
    images: Tensor,
    sizes: Tensor,
    placements: Tensor,
    found: Mapping[str, Tensor],
    class_names: Sequence[str],
) -> Iterator[Tensor]:
    """Images (batch, c, h, w) of 0..1 as their files have them, with what was found: uint8.

    ``sizes`` (batch, 2) are the files' heights and widths, ``placements`` (batch, 4) where their
    pixels lie in the images. What is larger than a screen is made smaller.
    """
    from dltrain.reports.detection import paint_boxes, restored

    pixels = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).mul(255).round().to(torch.uint8)
    for row, count in enumerate(found["boxes_length"].tolist()):
        height, width = sizes[row].tolist()
        image, scale = restored(pixels[row].numpy(), (height, width), placements[row].tolist())
        labels = found["labels"][row, :count].tolist()
        scores = found["score"][row, :count].tolist()
        captions = [
            f"{class_names[label]} {score:.2f}" for label, score in zip(labels, scores, strict=True)
        ]
        boxes = found["boxes"][row, :count].numpy() * scale
        yield torch.from_numpy(paint_boxes(image, boxes, labels, captions))


def as_coco(parts: Sequence[Part], classes: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The truth as a COCO file has it, and what was found as its results have it."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for part in parts:
        for place, row in enumerate(part.rows.tolist()):
            images.append({"id": row + 1})
            count = int(part.true_lengths[place])
            for (box, area), label, ignored in zip(
                _sized(part.true_boxes[place, :count]),
                part.true_labels[place, :count].tolist(),
                part.ignored[place, :count].tolist(),
                strict=True,
            ):
                annotations.append({
                    "id": len(annotations) + 1, "image_id": row + 1, "category_id": label + 1,
                    "bbox": box, "area": area, "iscrowd": int(ignored),
                })  # fmt: skip
            count = int(part.lengths[place])
            for (box, _), label, score in zip(
                _sized(part.boxes[place, :count]),
                part.labels[place, :count].tolist(),
                part.scores[place, :count].tolist(),
                strict=True,
            ):
                found.append(
                    {"image_id": row + 1, "category_id": label + 1, "bbox": box, "score": score}
                )
    categories = [{"id": number + 1, "name": str(number)} for number in range(classes)]
    return {"images": images, "annotations": annotations, "categories": categories}, found


def evaluated(
    truth: Mapping[str, Any], found: Sequence[Mapping[str, Any]]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Precision (IoU, recall, class) and recall (IoU, class), -1 where there is nothing to find."""
    from faster_coco_eval import COCO, COCOeval_faster

    coco = COCO(dict(truth))
    evaluation = COCOeval_faster(
        coco, coco.loadRes(list(found)), "bbox", print_function=_say_nothing
    )
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]
    return precision, np.asarray(evaluation.eval["recall"])[:, :, 0, -1]


def _say_nothing(*said: object) -> None:
    return None


def _sized(boxes: Tensor) -> Iterator[tuple[list[float], float]]:
    """Left, top, width and height of each, and its area, in float64."""
    corners = boxes.double()
    sides = corners[:, 2:] - corners[:, :2]
    rows = torch.cat((corners[:, :2], sides), 1).tolist()
    yield from zip(rows, sides.prod(1).tolist(), strict=True)


def _mean(values: np.ndarray[Any, Any]) -> float:
    """Of what there is; NaN where there is nothing."""
    there = values[values > -1]
    return float(there.mean()) if there.size else float("nan")


def _shown(value: float) -> str:
    return f"{value:.4f}"


def _real(boxes: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(boxes.shape[1], device=boxes.device) < lengths[:, None]


def _draw_curves(precision: np.ndarray[Any, Any], class_names: Sequence[str]) -> Figure:
    """Of classes that there is something of."""
    from dltrain.reports.detection import draw_precision_recall

    curves = {
        name: precision[:, place]
        for place, name in enumerate(class_names)
        if (precision[:, place] > -1).any()
    }
    if len(curves) > MOST_CURVES:
        curves = {"mean of all classes": np.stack(list(curves.values())).mean(0)}
    return draw_precision_recall(curves)


def _draw_images(
    found: Sequence[Tensor],
    class_names: Sequence[str],
    shown: Callable[[Tensor], Tensor],
    threshold: float,
) -> Figure:
    from dltrain.reports.detection import Outlined, draw_detections, matched

    inputs, placement, *columns = found
    part = Part(torch.arange(len(inputs)), *columns)
    scale, offset = placement[:, None, :2].repeat(1, 1, 2), placement[:, None, 2:].repeat(1, 1, 2)
    boxes, true_boxes = part.boxes * scale + offset, part.true_boxes * scale + offset
    drawn = []
    for place in range(len(inputs)):
        count, true = int(part.lengths[place]), int(part.true_lengths[place])
        sure = int((part.scores[place, :count] >= threshold).sum())
        drawn.append(
            matched(
                Outlined(
                    boxes[place, :sure].numpy(), part.labels[place, :sure].numpy(),
                    part.scores[place, :sure].numpy(),
                ),
                Outlined(
                    true_boxes[place, :true].numpy(), part.true_labels[place, :true].numpy(),
                    part.ignored[place, :true].numpy(),
                ),
                SAME,
            )
        )  # fmt: skip
    images = shown(inputs).permute(0, 2, 3, 1).numpy()
    return draw_detections(images, drawn, class_names)
