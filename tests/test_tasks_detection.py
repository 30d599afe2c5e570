"""The detector of cells: whom it assigns what, what it learns by, and that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, generalized_box_iou_loss, nms

from dltrain.contracts.data import Batch, DataSpec, Field
from dltrain.contracts.task import Phase
from dltrain.errors import UserError
from dltrain.models.vision.yolo import STRIDES, Yolo
from dltrain.tasks import detection
from dltrain.tasks.detection import Detection
from dltrain.tasks.finding import Found, in_the_file, suppressed
from dltrain.tasks.losses.detection import Truth, assign, giou_loss, varifocal

SIDE = 64


def spec(classes: int = 2, height: int = SIDE, width: int = SIDE) -> DataSpec:
    names = tuple("abcdefgh"[:classes])
    return DataSpec(
        {
            "input": Field((3, height, width), "image", "input"),
            "boxes": Field((None, 4), "boxes", "target", fill=0.0),
            "labels": Field((None,), "class", "target", size=classes, names=names, fill=0),
        }
    )


def squares(count: int) -> Batch:
    """Red squares (class 0) and green ones (1) on gray; one image has none."""
    generator = torch.Generator().manual_seed(0)
    images = torch.full((count, 3, SIDE, SIDE), 0.0)
    boxes, labels = torch.zeros(count, 2, 4), torch.zeros(count, 2, dtype=torch.int64)
    for row in range(count - 1):
        for place in range(2):
            side = int(torch.randint(12, 24, (), generator=generator))
            left = int(torch.randint(0, 32 - side, (), generator=generator)) + 32 * place
            top = int(torch.randint(0, SIDE - side, (), generator=generator))
            label = int(torch.randint(0, 2, (), generator=generator))
            images[row, label, top : top + side, left : left + side] = 2.0
            boxes[row, place] = torch.tensor([left, top, left + side, top + side])
            labels[row, place] = label
    lengths = torch.full((count,), 2)
    lengths[-1] = 0
    return {
        "input": images,
        "boxes": boxes,
        "labels": labels,
        "ignored": torch.zeros(count, 2, dtype=torch.bool),
        "boxes_length": lengths,
        "placement": torch.tensor([[0.5, 0.5, 0.0, 0.0]]).repeat(count, 1),
        "image_size": torch.tensor([[128, 128]]).repeat(count, 1),
    }


def trained(task: Detection, batch: Batch, steps: int, lr: float = 1e-2) -> list[float]:
    optimizer = torch.optim.Adam(task.parameters(), lr)
    losses = []

    def optimize(loss: Any, name: str = "model", weight: Any = None) -> None:
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    for _ in range(steps):
        metrics = task.train_step(batch, optimize)
        losses.append(float(metrics["loss"]))  # type: ignore[arg-type]
    return losses


def one_by_one(
    probabilities: Tensor, boxes: Tensor, centers: Tensor, strides: Tensor, truth: Truth, most: int
) -> tuple[Tensor, Tensor]:
    """The owners and scores (batch, cells) by section 3.2 of TOOD, in loops; -1 for nobody."""
    batch, cells = probabilities.shape[:2]
    owners = torch.full((batch, cells), -1)
    scores = torch.zeros(batch, cells)
    for b in range(batch):
        real = [n for n in range(truth.boxes.shape[1]) if truth.real[b, n]]
        iou = box_iou(truth.boxes[b], boxes[b])
        fit = torch.zeros_like(iou)
        wanted: dict[int, list[int]] = {c: [] for c in range(cells)}
        for n in real:
            left, top, right, bottom = truth.boxes[b, n].tolist()
            for c in range(cells):
                x, y = centers[c].tolist()
                reach = float(strides[c]) / 2
                near = abs(x - (left + right) / 2) <= max((right - left) / 2, reach) and abs(
                    y - (top + bottom) / 2
                ) <= max((bottom - top) / 2, reach)
                if near:
                    chance = probabilities[b, c, truth.labels[b, n]]
                    fit[n, c] = chance * iou[n, c] ** 6
            best = [c for c in fit[n].argsort(descending=True).tolist()[:most] if fit[n, c] > 1e-9]
            assert best, "of the trials below every object overlaps a cell's box"
            for c in best:
                wanted[c].append(n)
        for c, some in wanted.items():
            if some:
                owners[b, c] = max(some, key=lambda n: float(iou[n, c]))
        for n in real:
            own = [c for c in range(cells) if owners[b, c] == n]
            if own:
                largest, overlap = max(fit[n, own]), max(iou[n, own])
                for c in own:
                    scores[b, c] = fit[n, c] / largest * overlap
    return owners, scores


def test_cells_are_assigned_as_the_paper_has_it() -> None:
    generator = torch.Generator().manual_seed(3)
    centers = torch.cartesian_prod(torch.arange(4.0, 64, 8), torch.arange(4.0, 64, 8)).flip(1)
    strides = torch.full((len(centers),), 8.0)
    corner = torch.rand(3, 5, 2, generator=generator) * 40
    true = torch.cat((corner, corner + 6 + torch.rand(3, 5, 2, generator=generator) * 18), 2)
    reach = 3 + torch.rand(3, len(centers), 4, generator=generator) * 10
    boxes = torch.cat((centers - reach[..., :2], centers + reach[..., 2:]), 2)
    probabilities = torch.rand(3, len(centers), 2, generator=generator)
    real = torch.arange(5) < torch.tensor([5, 2, 0])[:, None]
    truth = Truth(true, torch.randint(0, 2, (3, 5), generator=generator), real, ~real & False)

    found = assign(probabilities, boxes, centers, strides, truth, 4)

    owners, scores = one_by_one(probabilities, boxes, centers, strides, truth, 4)
    assert torch.equal(found.scores > 0, owners >= 0)
    assert torch.allclose(found.scores, scores, atol=1e-6)
    for b, c in (owners >= 0).nonzero().tolist():
        assert torch.equal(found.boxes[b, c], true[b, owners[b, c]])
        assert found.labels[b, c] == truth.labels[b, owners[b, c]]
    assert not found.scores[2].any()
    assert found.counted.all()


def test_every_object_has_a_cell_and_crowds_are_not_judged() -> None:
    centers = torch.tensor([[4.0, 4], [12, 4], [20, 4], [28, 4]])
    strides = torch.full((4,), 8.0)
    # A box of a pixel in the second cell, and a crowd over the last two.
    boxes = torch.tensor([[[10.0, 3, 11, 4], [16, 0, 32, 8]]])
    flags = torch.tensor([[True, False]])
    truth = Truth(boxes, torch.tensor([[1, 0]]), flags, ~flags)
    said = torch.full((1, 4, 4), 90.0) + torch.tensor([0.0, 0, 1, 1])

    found = assign(torch.full((1, 4, 2), 0.01), said, centers, strides, truth)

    assert (found.scores[0] > 0).tolist() == [False, True, False, False]
    assert found.counted[0].tolist() == [True, True, False, False]


def test_varifocal_weighs_objects_by_their_score_and_the_rest_by_what_is_thought_of_it() -> None:
    logits, targets = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([0.7, 0.0, 0.0])
    p = logits.sigmoid()
    expected = [
        -0.7 * (0.7 * p[0].log() + 0.3 * (1 - p[0]).log()),
        -0.75 * p[1] ** 2 * (1 - p[1]).log(),
        -0.75 * p[2] ** 2 * (1 - p[2]).log(),
    ]

    assert torch.allclose(varifocal(logits, targets), torch.stack(expected))


def test_giou_is_torchvisions_with_the_same_gradients() -> None:
    """Of boxes that meet, that lie apart, that are the same and that have no area."""
    corners = torch.rand(2, 200, 4, generator=torch.Generator().manual_seed(0)) * 40
    goals, found = (torch.cat([c[:, :2], c[:, :2] + c[:, 2:]], 1) for c in corners)
    found[:20] = goals[:20]
    found[20:30, 2:] = found[20:30, :2]
    goals[20:25, 2:] = goals[20:25, :2]
    gradients = []
    for loss in (giou_loss, generalized_box_iou_loss):
        boxes = found.clone().requires_grad_()
        values = loss(boxes, goals)
        values.sum().backward()
        gradients.append((values.detach(), boxes.grad))

    (ours, our_gradient), (theirs, their_gradient) = gradients
    assert torch.allclose(ours, theirs, atol=1e-6)
    # Of boxes that are the same, max and min divide the gradient in ways of their own.
    assert torch.allclose(our_gradient[20:], their_gradient[20:], atol=1e-5)


def test_suppression_is_that_of_each_image_and_class_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(3, 60, 2, generator=generator) * 50
    boxes = torch.cat((corner, corner + 20), 2)
    scores = torch.rand(3, 60, 2, generator=generator)

    found = suppressed(boxes, scores, lowest=0.2, overlap=0.5, most=20)

    for image in range(3):
        kept = []
        for label in range(2):
            own = scores[image, :, label]
            chosen = nms(boxes[image], own, 0.5)
            kept += [
                (float(own[c]), label, boxes[image, c].tolist()) for c in chosen if own[c] > 0.2
            ]
        kept.sort(reverse=True)
        count = int(found.lengths[image])
        assert count == min(20, len(kept))
        assert found.scores[image, :count].tolist() == [score for score, _, _ in kept[:20]]
        assert found.labels[image, :count].tolist() == [label for _, label, _ in kept[:20]]
        assert found.boxes[image, :count].tolist() == [box for _, _, box in kept[:20]]
    none = suppressed(boxes, scores, lowest=2.0, overlap=0.5, most=20)
    assert none.lengths.tolist() == [0, 0, 0]


def test_cells_lie_where_their_pixels_are_whatever_the_size() -> None:
    network = Yolo(spec(3, 40, 72), width=4).eval()
    with torch.no_grad():
        cells = network(torch.zeros(2, 3, 40, 72))

    # Padded to 64x96.
    count = sum((64 // stride) * (96 // stride) for stride in STRIDES)
    assert cells.logits.shape == (2, count, 3)
    assert cells.boxes.shape == (2, count, 4)
    assert cells.centers[0].tolist() == [4, 4]
    assert cells.centers[12].tolist() == [4, 12]
    assert cells.centers[-1].tolist() == [80, 48]
    middle = (cells.boxes[..., :2] + cells.boxes[..., 2:]) / 2
    assert (middle - cells.centers).abs().max() < 2
    assert cells.logits.sigmoid().max() < 0.05


def test_squares_are_learned_and_predicted_in_the_files_pixels() -> None:
    torch.manual_seed(0)
    task = Detection(Yolo(spec(), width=8), spec(), nms=0.5, threshold=0.7)
    batch = squares(6)

    losses = trained(task.train(), batch, 60)
    found = task.eval().predict(batch).columns

    assert losses[-1] < 0.25 * losses[0]
    assert found["boxes_length"].tolist() == [2, 2, 2, 2, 2, 0]
    for row in range(5):
        truth = in_the_file(batch["boxes"], batch)[row]
        overlap, which = box_iou(truth, found["boxes"][row, :2]).max(1)
        assert overlap.min() > 0.7
        assert torch.equal(found["labels"][row][which], batch["labels"][row])
    # What is exported has a choice to be made of it; a trace knows no number of cells.
    every = task.exports({"input": batch["input"]})["model"].network(batch["input"])
    assert every.columns["boxes"].shape[:2] == every.columns["score"].shape[:2]
    assert every.fields["boxes"].shape == (None, 4)
    images = task.paint(batch, found)
    assert [one[""].pixels.shape for one in images] == [(128, 128, 3)] * 6
    assert not torch.equal(images[0][""].pixels, images[5][""].pixels)
    alone = task.predict({name: column[:1] for name, column in batch.items()}).columns
    assert torch.allclose(alone["boxes"][0, :2], found["boxes"][0, :2], atol=1e-3)


def test_a_batch_without_an_object_is_learned_from() -> None:
    task = Detection(Yolo(spec(), width=4), spec())
    batch = squares(2)
    batch["boxes_length"] = torch.zeros(2, dtype=torch.int64)

    losses = trained(task.train(), batch, 3)

    assert all(0 < loss < 100 for loss in losses)
    assert all(p.isfinite().all() for p in task.parameters())


def test_boxes_go_back_to_the_files_pixels_and_stay_in_the_image() -> None:
    batch = {
        "placement": torch.tensor([[0.5, 0.5, 0.0, 8.0]]),
        "image_size": torch.tensor([[96, 128]]),
    }
    boxes = torch.tensor([[[10.0, 18, 20, 28], [-5, 0, 100, 100]]])

    assert in_the_file(boxes, batch).tolist() == [[[20, 20, 40, 40], [0, 0, 128, 96]]]


def test_only_what_is_sure_enough_is_predicted() -> None:
    found = Found(
        torch.ones(1, 3, 4), torch.ones(1, 3), torch.tensor([[0.9, 0.5, 0.2]]), torch.tensor([3])
    )

    sure = found.above(0.4)

    assert sure.lengths.tolist() == [2]
    assert sure.scores.tolist() == [[pytest.approx(0.9), pytest.approx(0.5), 0]]
    assert sure.boxes[0, 2].tolist() == [0] * 4


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = DataSpec(
        {"input": Field((3, 8, 8), "image", "input"), "target": Field((), "class", "target", 2)}
    )
    with pytest.raises(ValueError, match="a detector needs boxes, and this data has none"):
        Yolo(classes)
    for settings, said in (
        ({"threshold": 0.5, "lowest": 0.6}, "lowest and threshold are scores"),
        ({"nms": 0.0}, "nms is an IoU"),
        ({"candidates": 0}, "candidates must be >= 1"),
        ({"most": 0}, "most must be >= 1"),
    ):
        with pytest.raises(ValueError, match=said):
            Detection(nn.Identity(), spec(), **settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="Identity is no network of cells for task=detection"):
        Detection(nn.Identity(), spec()).forward(squares(1))
    monkeypatch.setattr(detection, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'dltrain\[detection\]'"):
        Detection(nn.Identity(), spec()).enter(Phase("all", 1))
