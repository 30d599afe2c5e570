"""COCO's metrics: those of its own evaluation, however the split is cut into batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Outputs
from dltrain.metrics.detection import DetectionExamples, MeanAveragePrecision, mistakes, part_of
from dltrain.reports.detection import Outlined, matched, paint_boxes

coco_eval = pytest.importorskip("faster_coco_eval", reason="pip install 'dltrain[detection]'")

CLASSES = ("a", "b", "c", "nobody")
IMAGES = 12


def random_boxes(generator: torch.Generator, count: int) -> Tensor:
    corner = torch.rand(count, 2, generator=generator) * 300
    return torch.cat((corner, corner + 4 + torch.rand(count, 2, generator=generator) * 120), 1)


def truth_and_found(seed: int) -> list[dict[str, Tensor]]:
    """Of each image: some boxes, some of them crowds, and what was found: near them, or not."""
    generator = torch.Generator().manual_seed(seed)
    images = []
    for row in range(IMAGES):
        count = 0 if row % 5 == 0 else int(torch.randint(1, 9, (), generator=generator))
        true = random_boxes(generator, count)
        labels = torch.randint(0, 3, (count,), generator=generator)
        near = true + torch.randn(true.shape, generator=generator) * 6
        near[:, 2:] = near[:, 2:].maximum(near[:, :2] + 1)
        # Of the image's crowds, many boxes; of one image nothing is found.
        twice = near.repeat(2, 1) + torch.randn(2 * count, 4, generator=generator)
        twice[:, 2:] = twice[:, 2:].maximum(twice[:, :2] + 1)
        others = random_boxes(generator, 4)
        boxes = torch.cat((twice, others)) if row != 3 else true[:0]
        guessed = torch.cat((labels.repeat(2), torch.randint(0, 3, (4,), generator=generator)))
        scores, order = torch.rand(len(boxes), generator=generator).sort(descending=True)
        images.append({
            "true_boxes": true, "true_labels": labels,
            "ignored": torch.rand(count, generator=generator) < 0.25,
            "boxes": boxes, "labels": guessed[order] if len(boxes) else guessed[:0],
            "score": scores,
        })  # fmt: skip
        images[-1]["boxes"] = boxes[order]
    return images


def padded(columns: Sequence[Tensor]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(list(columns), batch_first=True)


def gathered(metric: Any, images: Sequence[dict[str, Tensor]], rows: Sequence[int]) -> Any:
    some = [images[row] for row in rows]
    columns = {name: padded([one[name] for one in some]) for name in images[0]}
    outputs: Outputs = {name: columns[name] for name in ("boxes", "labels", "score", "true_boxes")}
    outputs["boxes_length"] = torch.tensor([len(one["boxes"]) for one in some])
    batch: Batch = {
        "input": torch.zeros(len(rows), 3, 8, 8),
        "labels": columns["true_labels"],
        "ignored": columns["ignored"],
        "boxes_length": torch.tensor([len(one["true_boxes"]) for one in some]),
        "placement": torch.tensor([[1.0, 1, 0, 0]]).repeat(len(rows), 1),
    }
    metric.update(outputs, batch, torch.tensor(list(rows)))
    return metric


def by_the_library(images: Sequence[dict[str, Tensor]]) -> dict[str, float]:
    """What it says of a file written by hand."""
    annotations: list[dict[str, Any]] = []
    results = []
    for row, one in enumerate(images):
        for box, label, crowd in zip(
            one["true_boxes"], one["true_labels"], one["ignored"], strict=True
        ):
            left, top, right, bottom = map(float, box)
            annotations.append({
                "id": len(annotations) + 1, "image_id": row, "category_id": int(label),
                "bbox": [left, top, right - left, bottom - top],
                "area": (right - left) * (bottom - top), "iscrowd": int(crowd),
            })  # fmt: skip
        for box, label, score in zip(one["boxes"], one["labels"], one["score"], strict=True):
            left, top, right, bottom = map(float, box)
            results.append({
                "image_id": row, "category_id": int(label), "score": float(score),
                "bbox": [left, top, right - left, bottom - top],
            })  # fmt: skip
    truth = coco_eval.COCO({
        "images": [{"id": row} for row in range(len(images))],
        "annotations": annotations,
        "categories": [{"id": place, "name": name} for place, name in enumerate(CLASSES)],
    })  # fmt: skip
    found = coco_eval.COCOeval_faster(truth, truth.loadRes(results), "bbox")
    found.run()
    named = found.stats_as_dict
    return {
        "map": named["AP_all"], "map_50": named["AP_50"], "map_75": named["AP_75"],
        "recall": named["AR_third"],
    }  # fmt: skip


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_figures_are_those_of_coco_however_the_split_is_cut(seed: int) -> None:
    images = truth_and_found(seed)
    whole = gathered(MeanAveragePrecision(CLASSES), images, range(IMAGES))
    first = gathered(MeanAveragePrecision(CLASSES), images, range(3, IMAGES))
    other = gathered(MeanAveragePrecision(CLASSES), images, [0, 2, 1])
    first.merge(other)
    kept = MeanAveragePrecision(CLASSES)
    kept.load_state_dict(first.state_dict())

    expected = by_the_library(images)

    assert 0.05 < expected["map"] < 0.95
    for metric in (whole, first, kept):
        found = metric.compute()
        assert found.scalars.keys() == set(MeanAveragePrecision.names)
        for name, value in expected.items():
            assert found.scalars[name] == pytest.approx(value, abs=1e-6)
        table = found.tables["classes"].rows
        assert [row[0] for row in table] == list(CLASSES)
        assert table[-1][1:] == [0, "nan", "nan", "nan", "nan"]
        # Crowds are no objects to be found.
        crowds = sum(int(one["ignored"].sum()) for one in images)
        every = sum(len(one["true_boxes"]) for one in images)
        assert sum(int(row[1]) for row in table) == every - crowds
        assert found.figures["precision_recall"]().axes[0].get_legend().get_texts()


def test_one_right_of_two_and_a_false_one_is_known_by_hand() -> None:
    box = [[0.0, 0, 10, 10]]
    far = [[50.0, 50, 60, 60]]
    images = [
        {
            "true_boxes": torch.tensor(box + far), "true_labels": torch.tensor([0, 0]),
            "ignored": torch.tensor([False, False]),
            "boxes": torch.tensor([[0.0, 20, 10, 30], *box]), "labels": torch.tensor([0, 0]),
            "score": torch.tensor([0.9, 0.8]),
        }
    ]  # fmt: skip

    found = gathered(MeanAveragePrecision(["a"]), images, [0]).compute().scalars

    # Precision is 1/2 up to recall 1/2: 51 of 101 recalls.
    assert found["map"] == pytest.approx(0.5 * 51 / 101)
    assert found["recall"] == pytest.approx(0.5)


def test_a_split_without_any_box_has_no_figure() -> None:
    nothing = {
        "true_boxes": torch.zeros(0, 4), "true_labels": torch.zeros(0, dtype=torch.int64),
        "ignored": torch.zeros(0, dtype=torch.bool), "boxes": torch.zeros(0, 4),
        "labels": torch.zeros(0, dtype=torch.int64), "score": torch.zeros(0),
    }  # fmt: skip
    found = gathered(MeanAveragePrecision(["a"]), [nothing], [0]).compute()
    assert np.isnan(list(found.scalars.values())).all()
    found.figures["precision_recall"]()
    examples = gathered(DetectionExamples(["a"], lambda x: x, 0.5), [nothing], [0]).compute()
    assert examples.figures["worst_images"]().texts


def test_mistakes_are_counted_and_drawn() -> None:
    images = truth_and_found(0)
    examples = gathered(DetectionExamples(CLASSES, lambda x: x, 0.5, most=3), images, range(IMAGES))
    figures = examples.compute().figures

    assert [axes.get_images() != [] for axes in figures["worst_images"]().axes] == [True] * 3
    columns = {name: padded([one[name] for one in images]) for name in images[0]}
    part = part_of(
        {**columns, "boxes_length": torch.tensor([len(one["boxes"]) for one in images])},
        {
            "labels": columns["true_labels"],
            "ignored": columns["ignored"],
            "boxes_length": torch.tensor([len(one["true_boxes"]) for one in images]),
        },
        torch.arange(IMAGES),
    )
    # Nothing is there, four are made up; nothing is found, all are missed.
    assert mistakes(part, 0.0)[0] == 4
    assert mistakes(part, 0.0)[3] == (~images[3]["ignored"]).sum()
    assert mistakes(part, 2.0)[0] == float("-inf")


def test_the_surest_takes_an_object_and_crowds_excuse() -> None:
    one = matched(
        Outlined(
            np.array([[0, 0, 9, 10], [0, 0, 10, 10], [20, 0, 30, 10], [50, 50, 60, 60.0]]),
            np.array([0, 0, 0, 1]),
            np.array([0.9, 0.8, 0.7, 0.6]),
        ),
        Outlined(
            np.array([[0, 0, 10, 10], [15, 0, 90, 20], [0, 90, 9, 99.0]]),
            np.array([0, 0, 1]),
            np.array([False, True, False]),
        ),
        0.5,
    )

    assert one.right.tolist() == [True, False, False]
    assert one.found.values.tolist() == [0.9, 0.8, 0.6]
    assert one.missed.labels.tolist() == [1]


def test_boxes_are_painted_within_the_image() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    painted = paint_boxes(
        image, np.array([[5.0, 10, 50, 35], [0, 0, 60, 40]]), [0, 1], ["a 0.9", "b"]
    )

    assert painted.shape == image.shape
    assert painted[22, 5].any() and painted[35, 30].any()
    assert not painted[20, 30].any()
    assert not image.any()
