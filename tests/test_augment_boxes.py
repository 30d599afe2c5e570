"""Boxes move with the pixels, whatever is done to these."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Field
from dltrain.data.detection.augment import BoxAugment
from dltrain.data.detection.moving import clipped, packed
from tests.test_augment import drawing_from

HEIGHT, WIDTH = 64, 80
FIELDS = {
    "input": Field((4, HEIGHT, WIDTH), "image", "input", mean=(0.0,), std=(1.0,)),
    "boxes": Field((None, 4), "boxes", "target", fill=0.0),
}
COUNT = 6


def objects() -> Batch:
    """A bright object in each image's own channel, at another place; one image has none."""
    images = torch.zeros(COUNT, 4, HEIGHT, WIDTH)
    boxes = torch.zeros(COUNT, 2, 4)
    for row in range(COUNT - 1):
        left, top = 18 + 3 * row, 22 - row
        wide, high = 14 + row, 18 - row
        boxes[row, 0] = torch.tensor([left, top, left + wide, top + high])
        images[row, row % 4, top : top + high, left : left + wide] = 255
    there = torch.ones(COUNT, dtype=torch.int64)
    there[-1] = 0
    columns = {
        "boxes": boxes,
        "labels": (torch.arange(COUNT) % 4)[:, None].expand(-1, 2),
        "ignored": torch.zeros(COUNT, 2, dtype=torch.bool),
    }
    return {"input": images, **columns, **{f"{name}_length": there for name in columns}}


def changed(batch: Batch, seed: int = 0, **settings: Any) -> Batch:
    augment = BoxAugment(**settings)
    draw = drawing_from(seed, len(batch["input"]))
    return augment.after(augment(dict(batch), draw, FIELDS), draw, FIELDS)


def bright(image: Tensor) -> list[float]:
    """The box that encloses the pixels of one object, (height, width) of 0..255."""
    rows, columns = (image > 40).nonzero().unbind(1)
    low, high = (int(columns.min()), int(rows.min())), (int(columns.max()), int(rows.max()))
    return [float(one) for one in (*low, high[0] + 1, high[1] + 1)]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"flip": 0.5},
        {"alternating_flip": True},
        {"shift": 9},
        {"crop": 6},
        {"scale": 0.4},
        {"shear": 20},
        {"rotate": 30},
        {"elastic_alpha": 200, "elastic_sigma": 8},
        {
            "elastic_alpha": 150,
            "elastic_sigma": 8,
            "rotate": 20,
            "shift": 5,
            "scale": 0.2,
            "flip": 0.5,
        },
    ],
)
def test_a_box_encloses_the_object_after_every_change(settings: dict[str, Any]) -> None:
    batch = objects()
    found = changed(batch, visible=0, **settings)

    assert found["boxes_lost"].tolist() == [0] * COUNT
    assert found["boxes_length"].tolist() == [1] * (COUNT - 1) + [0]
    moves = settings and (found["boxes"][:, 0] - batch["boxes"][:, 0]).abs().max() > 2
    assert bool(moves) == bool(settings)
    for row in range(COUNT - 1):
        box = found["boxes"][row, 0]
        seen = torch.tensor(bright(found["input"][row, row % 4]))
        assert (box - seen).abs().max() <= 1.5, (row, box, seen)


def test_a_mosaic_has_the_objects_of_four_images() -> None:
    batch = objects()
    found = changed(batch, mosaic=0.7, mosaic_scale=(0.5, 0.9), visible=0.5, rotate=5)
    again = changed(batch, mosaic=0.7, mosaic_scale=(0.5, 0.9), visible=0.5, rotate=5)

    assert all(torch.equal(found[name], again[name]) for name in found)
    assert found["boxes"].shape == (COUNT, 8, 4)
    several = 0
    for row in range(COUNT):
        count = int(found["boxes_length"][row])
        several += count > 1
        labels = found["labels"][row, :count].tolist()
        for place, label in enumerate(labels):
            # Images 0 and 4 share a channel: where both are seen, one box is not told by pixels.
            if labels.count(label) == 1:
                left, top, right, bottom = found["boxes"][row, place].round().long().tolist()
                inside = found["input"][row, label, top:bottom, left:right]
                assert inside.mean() > 0.75 * 255
                whole = found["input"][row, label].sum()
                assert inside.sum() >= 0.85 * whole or found["boxes_lost"][row]
    assert several >= 2
    assert not found["boxes"][:, 1:][found["boxes_length"] <= 1].any()


def test_mixup_has_the_boxes_of_both() -> None:
    found = changed(objects(), mixup=8.0, visible=0.0)

    assert found["boxes_length"].tolist() == [1, 2, 2, 2, 2, 1]
    assert found["labels"][1, :2].tolist() == [1, 0]
    one = changed(objects(), mixup=8.0, visible=0.9)
    assert one["boxes_length"].sum() == 0
    assert one["boxes_lost"].sum() == 10


def test_what_leaves_the_image_is_clipped_left_out_and_counted() -> None:
    boxes = torch.tensor(
        [[[-10.0, 0, 10, 20], [-30, 0, 10, 20], [70, 50, 80.5, 64], [79.5, 0, 90, 9]]]
    )

    cut, enough = clipped(boxes, (HEIGHT, WIDTH), 0.5)

    assert cut[0].tolist() == [[0, 0, 10, 20], [0, 0, 10, 20], [70, 50, 80, 64], [79.5, 0, 80, 9]]
    assert enough.tolist() == [[True, False, True, False]]
    lengths, (kept,) = packed(enough, cut)
    assert lengths.tolist() == [2]
    assert kept[0].tolist() == [[0, 0, 10, 20], [70, 50, 80, 64], [0] * 4, [0] * 4]
    far = changed(objects(), shift=500)
    assert (far["boxes_length"] + far["boxes_lost"]).tolist() == [1] * (COUNT - 1) + [0]
    assert far["boxes_lost"].sum() > 0


def test_colors_and_cutout_leave_boxes_where_they_are() -> None:
    batch = objects()
    found = changed(batch, brightness=0.5, contrast=0.5, cutout=8)

    assert torch.equal(found["boxes"], batch["boxes"])
    assert not torch.equal(found["input"], batch["input"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cutmix": 1.0}, "cutmix would cut boxes in two"),
        ({"mosaic": 2.0}, "mosaic is a fraction"),
        ({"mosaic_scale": (1.0, 0.5)}, r"mosaic_scale is \[lowest, highest\]"),
        ({"visible": -0.1}, "visible is a fraction"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        BoxAugment(**settings)
