"""Augmentation: what each change does to an image, and that a batch's place decides the draw."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Field, Stream
from dltrain.data.images.digits import Digits
from dltrain.data.images.mixing import Beta
from dltrain.data.images.source import ImageAugment, prepare_images
from dltrain.data.images.warp import smooth
from dltrain.data.streams.in_memory import Batching, Limits, TensorStream, TrainingDraw
from dltrain.data.tables.augment import VectorAugment
from dltrain.data.tables.line import Line
from tests.conftest import Train
from tests.streams import CPU, first, opened, same

SIDE = 24


def augmented(images: Tensor, seed: int = 0, **settings: Any) -> Tensor:
    fields = {"input": image_field(images)}
    augment = ImageAugment(**settings)
    return augment({"input": images}, drawing_from(seed, len(images)), fields)["input"]


def image_field(images: Tensor) -> Field:
    return Field(tuple(images.shape[1:]), "image", "input", mean=(0.0,), std=(1.0,))


def drawing_from(seed: int, count: int) -> TrainingDraw:
    """A draw for a batch of so many examples."""
    columns = {"input": torch.zeros(count)}
    stream = TensorStream(columns, Batching(Limits(), CPU, lambda batch, draw: batch))
    return TrainingDraw(stream, torch.Generator(), seed, 0)


def coordinates(count: int) -> Tensor:
    """Images (count, 3, side, side) of x, of y, and of noise.

    Interpolation between linear neighbors is exact, so that the first two channels of a warped
    image tell where each of its pixels came from.
    """
    along = torch.arange(float(SIDE)) - (SIDE - 1) / 2
    x, y = along.expand(SIDE, SIDE), along[:, None].expand(SIDE, SIDE)
    noise = torch.rand(count, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return torch.stack([x.expand(count, -1, -1), y.expand(count, -1, -1), noise], 1)


def middle(images: Tensor) -> Tensor:
    """What no border can have touched."""
    return images[..., 8:16, 8:16]


def test_nothing_asked_leaves_every_image_as_it_is() -> None:
    images = coordinates(3)

    assert not ImageAugment().active
    torch.testing.assert_close(augmented(images), images, atol=1e-4, rtol=0)


def test_a_shift_moves_every_pixel_by_the_same_amount_within_its_bound() -> None:
    images = coordinates(200)
    moved = middle(augmented(images, shift=3)) - middle(images)
    dx, dy = moved[:, 0], moved[:, 1]

    for amount in (dx, dy):
        torch.testing.assert_close(amount, amount[:, :1, :1].expand_as(amount), atol=1e-4, rtol=0)
        assert float(amount.abs().max()) <= 3
        assert float(amount.max()) > 2.5
        assert float(amount.min()) < -2.5
        assert float(amount.mean()) == pytest.approx(0, abs=0.5)


def drawing(monkeypatch: pytest.MonkeyPatch, value: float) -> None:
    """Have every uniform draw from -1 to 1 come out as ``value``."""
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda self, *_, **__: self.fill_(value))


@pytest.mark.parametrize("pixels", [1, 2, -3])
def test_a_shift_by_whole_pixels_moves_pixels_exactly_and_brings_in_background(
    pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = coordinates(2)[:, 2:]
    drawing(monkeypatch, 1.0 if pixels > 0 else -1.0)
    found = augmented(images, shift=abs(pixels))

    expected = torch.zeros_like(images)
    if pixels > 0:
        expected[..., :-pixels, :-pixels] = images[..., pixels:, pixels:]
    else:
        expected[..., -pixels:, -pixels:] = images[..., :pixels, :pixels]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_flip_mirrors_left_and_right_and_only_that() -> None:
    images = coordinates(3)
    torch.testing.assert_close(augmented(images, flip=1.0), images.flip(-1), atol=1e-4, rtol=0)

    images = coordinates(400)
    found = augmented(images, flip=0.25)
    mirrored = found[:, 0, 0, 0] > 0
    assert int(mirrored.sum()) == pytest.approx(100, abs=30)
    torch.testing.assert_close(found[mirrored], images[mirrored].flip(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[~mirrored], images[~mirrored], atol=1e-4, rtol=0)


def test_a_rotation_keeps_distances_from_the_center_and_its_bound() -> None:
    images = coordinates(200)
    x, y = middle(images)[:, 0], middle(images)[:, 1]
    found = middle(augmented(images, rotate=30))
    angles = torch.atan2(found[:, 1], found[:, 0]) - torch.atan2(y, x)
    angles = torch.rad2deg(torch.atan2(angles.sin(), angles.cos()))

    torch.testing.assert_close(found[:, :2].norm(dim=1), torch.hypot(x, y), atol=1e-3, rtol=0)
    torch.testing.assert_close(angles, angles[:, :1, :1].expand_as(angles), atol=0.01, rtol=0)
    assert float(angles.abs().max()) <= 30
    assert float(angles.max()) > 25
    assert float(angles.min()) < -25


def test_an_image_that_is_not_square_is_rotated_without_being_sheared() -> None:
    x = torch.arange(24.0).expand(12, 24) - 11.5
    y = torch.arange(12.0)[:, None].expand(12, 24) - 5.5
    found = augmented(torch.stack([x, y])[None], rotate=30)[..., 4:8, 10:14]
    original = torch.stack([x, y])[None, :, 4:8, 10:14]

    torch.testing.assert_close(found.norm(dim=1), original.norm(dim=1), atol=1e-3, rtol=0)


def test_a_scale_of_a_tenth_magnifies_by_nine_to_eleven_tenths() -> None:
    images = coordinates(200)
    zoom = middle(images)[:, :2] / middle(augmented(images, scale=0.1))[:, :2]

    torch.testing.assert_close(zoom, zoom[:, :1, :1, :1].expand_as(zoom), atol=1e-3, rtol=0)
    assert 0.9 <= float(zoom.min()) < 0.92
    assert 1.08 < float(zoom.max()) <= 1.1


@pytest.mark.parametrize(
    "settings", [{"shift": 2.0}, {"rotate": 20.0}, {"scale": 0.2}, {"flip": 0.5}]
)
def test_every_image_of_a_batch_gets_its_own_change(settings: dict[str, float]) -> None:
    same = coordinates(1).expand(16, -1, -1, -1)
    found = augmented(same, **settings)

    assert ImageAugment(**settings).active
    assert not torch.allclose(found, found[:1].expand_as(found))
    assert torch.equal(augmented(same, **settings), found)
    assert not torch.equal(augmented(same, seed=1, **settings), found)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shift": -1}, "shift must be at least 0"),
        ({"rotate": -1}, "rotate must be from 0 to 360"),
        ({"scale": -0.1}, "scale must be a fraction from 0 to below 1"),
        ({"scale": 1}, "scale must be a fraction from 0 to below 1"),
        ({"flip": 1.1}, "flip must be from 0 to 1"),
    ],
)
def test_impossible_augmentations_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageAugment(**settings)


def digits(**settings: Any) -> Any:
    augment = ImageAugment(**settings)
    return opened(Digits(batch_size=100, validation=100, augment=augment), 0)


def epoch(stream: Stream, number: int, start: int = 0) -> list[Batch]:
    return list(stream.batches(number, start))


def test_an_alternating_flip_shows_every_image_both_ways_in_two_epochs() -> None:
    count = 500
    arrows = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    arrows[..., :4] = 255
    names = torch.arange(count)
    augment = ImageAugment(alternating_flip=True)
    mirrored = []
    for seed in (0, 1):
        prepare = prepare_images({"input": image_field(arrows)}, augment, CPU)
        batching = Batching(Limits(64), CPU, prepare, seed, shuffle=True)
        loader = TensorStream({"input": arrows, "target": names}, batching)
        for number in range(3):
            found = torch.zeros(count, dtype=torch.bool)
            for batch in epoch(loader, number):
                found[batch["target"]] = batch["input"][:, 0, 0, 0] < 0.5
            mirrored.append(found)

    first, second, third, other, *_ = mirrored
    assert torch.equal(first, ~second)
    assert torch.equal(first, third)
    assert 0.4 < float(first.float().mean()) < 0.6
    assert 0.4 < float((first == other).float().mean()) < 0.6


def test_augmentation_depends_on_a_batchs_place_alone() -> None:
    settings = {"shift": 1.0, "rotate": 10.0, "flip": 0.5}
    whole = [batch["input"] for batch in epoch(digits(**settings)["train"], 2)]
    torch.manual_seed(99)
    resumed = [batch["input"] for batch in epoch(digits(**settings)["train"], 2, start=5)]

    assert len(resumed) == len(whole) - 5
    assert all(torch.equal(a, b) for a, b in zip(resumed, whole[5:], strict=True))


def test_augmentation_changes_training_images_alone() -> None:
    plain, changed = digits(), digits(shift=2.0)

    for split in ("validation", "test"):
        assert same(epoch(plain[split], 0), epoch(changed[split], 0))
    one, other = (first(loaders["train"]) for loaders in (plain, changed))
    assert torch.equal(one["target"], other["target"])
    assert not torch.equal(one["input"], other["input"])


def test_another_epoch_changes_an_image_in_another_way() -> None:
    plain, changed = digits()["train"], digits(shift=1.0)["train"]

    def moved(number: int) -> Tensor:
        """By how much each example, in the order of the split, differs from itself."""
        pairs = zip(epoch(plain, number), epoch(changed, number), strict=True)
        order = torch.cat([plain.rows(number, n) for n in range(plain.steps_per_epoch or 0)])
        return torch.cat([b["input"] - a["input"] for a, b in pairs])[order.argsort()]

    assert not torch.allclose(moved(0), moved(1))


def test_background_comes_in_from_beyond_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing(monkeypatch, 1.0)
    batch = first(digits(shift=3.0)["train"])

    # Normalized, a pixel of value 0 is -mean/std.
    background = torch.full_like(batch["input"][..., -3:, :], -0.305 / 0.376)
    torch.testing.assert_close(batch["input"][..., -3:, :], background)


def test_noise_on_vectors_has_its_std_and_spares_evaluation() -> None:
    inputs = torch.zeros(1000, 2)
    fields = {"input": Field((2,), "number", "input"), "target": Field((2,), "number", "target")}
    batch, draw = {"input": inputs, "target": inputs}, drawing_from(0, 1000)
    changed = VectorAugment(0.5)(batch, draw, fields)
    noisy = changed["input"]
    assert changed["target"] is inputs
    assert float(noisy.std()) == pytest.approx(0.5, rel=0.1)
    assert VectorAugment()(batch, draw, fields)["input"] is inputs
    with pytest.raises(ValueError, match="noise"):
        VectorAugment(-1.0)

    loaders = opened(Line(validation=0, augment=VectorAugment(0.5)), 0)
    assert sorted(next(loaders["test"].batches(0))["input"].flatten().tolist()) == [1, 2, 3, 4]
    once, again, other = (epoch(loaders["train"], number)[0]["input"] for number in (0, 0, 1))
    assert torch.equal(once, again)
    assert sorted(once.flatten().tolist()) != [1, 2, 3, 4]
    assert not torch.equal(once.sort(0).values, other.sort(0).values)


def test_a_crop_moves_by_whole_pixels_each_way() -> None:
    images = coordinates(300)
    moved = middle(augmented(images, crop=2)) - middle(images)

    torch.testing.assert_close(moved[:, :2], moved[:, :2].round(), atol=1e-4, rtol=0)
    for axis in (0, 1):
        amounts = moved[:, axis, 0, 0].round()
        assert set(amounts.tolist()) == {-2, -1, 0, 1, 2}
        assert int((amounts == 2).sum()) == pytest.approx(60, abs=30)


def test_a_crop_brings_in_background() -> None:
    ones = torch.full((200, 1, SIDE, SIDE), 255.0)
    found = augmented(ones, crop=3)
    sums = found.sum((1, 2, 3)) / 255
    sides = {(SIDE - x) * (SIDE - y) for x in range(4) for y in range(4)}
    assert {round(float(total)) for total in sums} <= sides
    assert float(sums.min()) < SIDE * SIDE - 100


def test_a_shear_leans_lines_without_moving_rows() -> None:
    images = coordinates(200)
    moved = middle(augmented(images, shear=20)) - middle(images)
    x, y = moved[:, 0], moved[:, 1]
    slope = (x[:, -1, 0] - x[:, 0, 0]) / 7

    torch.testing.assert_close(y, torch.zeros_like(y), atol=1e-4, rtol=0)
    rows = middle(images)[:, 1]
    torch.testing.assert_close(x, slope[:, None, None] * rows, atol=1e-3, rtol=0)
    limit = torch.tensor(20.0).deg2rad().tan()
    assert float(slope.abs().max()) <= float(limit) + 1e-4
    assert float(slope.max()) > 0.3 and float(slope.min()) < -0.3


def test_elastic_fields_are_the_smoothed_noise_of_simard() -> None:
    images = coordinates(200)
    moved = middle(augmented(images, elastic_alpha=10, elastic_sigma=3)) - middle(images)
    x, y = moved[:, 0], moved[:, 1]

    # Uniform noise of variance 1/3, under a Gaussian of sigma 3: alpha/sqrt(3)/(2 sigma sqrt(pi)).
    expected = 10 / 3**0.5 / (2 * 3 * torch.pi**0.5)
    for axis in (x, y):
        assert float(axis.std()) == pytest.approx(expected, rel=0.1)
        assert float(axis.mean()) == pytest.approx(0, abs=0.12)
    # Neighbors go together as the Gaussian has it, exp(-1/(4 sigma^2)); both axes by themselves.
    change = x.diff(dim=2).square().mean() / (2 * x.square().mean())
    assert float(change) == pytest.approx(1 - 0.9726, rel=0.15)
    assert abs(float((x * y).mean())) < 0.1 * expected**2


def test_smoothing_is_scipys_gaussian_with_nothing_beyond() -> None:
    from scipy.ndimage import gaussian_filter

    noise = torch.rand(3, 20, 31, dtype=torch.float64)
    expected = [gaussian_filter(field.numpy(), 2, mode="constant", truncate=6) for field in noise]
    torch.testing.assert_close(smooth(noise, 2.0), torch.tensor(numpy.stack(expected)))


def test_brightness_and_contrast_are_linear_in_an_image_and_keep_their_bounds() -> None:
    images = 100 + 20 * torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    bright = augmented(images, brightness=0.2) / images
    torch.testing.assert_close(bright, bright[:, :, :1, :1].expand_as(bright))
    assert 0.8 <= float(bright.min()) < 0.82 and 1.18 < float(bright.max()) <= 1.2

    contrasted = augmented(images, contrast=0.5)
    mean = (1, 2, 3)
    torch.testing.assert_close(contrasted.mean(mean), images.mean(mean))
    ratio = contrasted.std(mean) / images.std(mean)
    assert 0.5 <= float(ratio.min()) < 0.55 and 1.45 < float(ratio.max()) <= 1.5
    assert float(augmented(images * 2, brightness=0.9).max()) == 255


def test_saturation_leaves_gray_gray_and_luminance_as_it_is() -> None:
    gray = torch.full((50, 3, 4, 4), 90.0)
    torch.testing.assert_close(augmented(gray, saturation=0.9), gray)

    colors = 60 + 60 * torch.rand(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    found = augmented(colors, saturation=0.5)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((found * weights).sum(1), (colors * weights).sum(1))
    assert not torch.allclose(found, colors)
    with pytest.raises(ValueError, match="saturation"):
        Digits(augment=ImageAugment(saturation=0.1))


def finished(count: int, seed: int = 1, **settings: float) -> Batch:
    """What follows normalization, on images of ones whose classes are their own numbers."""
    numbers = torch.arange(count)
    images = (1.0 + numbers)[:, None, None, None].expand(-1, 1, 12, 12)
    batch = {"input": images.clone(), "target": numbers}
    fields = {
        "input": image_field(batch["input"]),
        "target": Field((), "class", "target", size=count),
    }
    return ImageAugment(**settings).after(batch, drawing_from(seed, count), fields)


def test_cutout_takes_one_square_somewhere_and_leaves_targets() -> None:
    batch = finished(300, cutout=4)
    gone = (batch["input"] == 0)[:, 0]
    areas = gone.sum((1, 2))

    assert torch.equal(batch["target"], torch.arange(300))
    assert int(areas.max()) == 16 and 4 <= int(areas.min()) < 16
    rows, columns = gone.any(2).sum(1), gone.any(1).sum(1)
    assert torch.equal(areas, rows * columns)
    assert bool(gone.any(0).all())


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_targets_are_the_fractions_of_the_pixels(name: str) -> None:
    batch = finished(40, **{name: 1.0})
    targets = batch["target"]

    torch.testing.assert_close(targets.sum(1), torch.ones(40))
    own = targets.diagonal()
    partner = torch.arange(40).roll(1)
    torch.testing.assert_close(targets[torch.arange(40), partner], 1 - own)
    # Each image holds its number throughout, so its mean tells of whom it is made.
    expected = own * (1 + torch.arange(40)) + (1 - own) * (1 + partner)
    torch.testing.assert_close(batch["input"].mean((1, 2, 3)), expected)
    kinds = {len(image.unique()) for image in batch["input"].round(decimals=3)}
    assert kinds <= ({1} if name == "mixup" else {1, 2})
    assert len(own.unique()) > 20


def test_with_both_each_image_gets_one_of_them() -> None:
    batch = finished(200, mixup=1.0, cutmix=1.0)
    pieces = [len(image.unique()) for image in batch["input"][1:].round(decimals=3)]
    whole = [image.unique().frac().abs().max() > 0.002 for image in batch["input"][1:]]
    assert pieces.count(2) > 50
    assert sum(map(bool, whole)) > 50


@pytest.mark.parametrize("strength", [0.2, 1.0, 4.0])
def test_fractions_are_distributed_as_beta(strength: float) -> None:
    from scipy.stats import beta, kstest

    drawn = Beta(strength)(torch.rand(4000, generator=torch.Generator().manual_seed(0)))
    assert kstest(drawn.numpy(), beta(strength, strength).cdf).pvalue > 0.01
    assert float(Beta(strength)(torch.tensor([1.0]))) == 1


def test_mixing_is_decided_by_place_and_learned_from(train: Train) -> None:
    settings = {"mixup": 0.4, "cutmix": 1.0, "cutout": 3, "elastic_alpha": 3.0, "crop": 1}
    whole = epoch(digits(**settings)["train"], 2)
    torch.manual_seed(99)
    resumed = epoch(digits(**settings)["train"], 2, start=5)
    assert same(whole[5:], resumed)

    options = [f"data.augment.{name}=0.2" for name in ("mixup", "cutmix")]
    options += ["regularizer=label_smoothing", "trainer.epochs=15"]
    assert train("model=mlp", "data=digits", *options).summary["test"]["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup": -1}, "mixup must be at least 0"),
        ({"cutout": -1}, "cutout must be at least 0"),
        ({"contrast": 1}, "below 1"),
        ({"shear": 90}, "shear must be from 0 to 89"),
        ({"elastic_sigma": 0}, "elastic_sigma"),
        ({"flip": 0.5, "alternating_flip": True}, "by chance or every other epoch"),
    ],
)
def test_other_impossible_augmentations_are_refused(
    settings: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ImageAugment(**settings)


def with_masks(count: int = 16) -> tuple[Batch, dict[str, Field]]:
    """Images of blocks of 4 pixels a side, and masks that say of each pixel its block's value."""
    generator = torch.Generator().manual_seed(2)
    blocks = torch.randint(1, 6, (count, 6, 6), generator=generator)
    masks = blocks.repeat_interleave(4, 1).repeat_interleave(4, 2)
    fields = {
        "input": image_field(masks[:, None]),
        "target": Field((SIDE, SIDE), "mask", "target", size=6, fill=0),
    }
    return {"input": masks[:, None] * 10.0, "target": masks}, fields


MOVES: list[dict[str, Any]] = [
    {"crop": 3},
    {"flip": 0.5},
    {"rotate": 20, "scale": 0.2, "shear": 10, "shift": 3},
    {"elastic_alpha": 20},
]


@pytest.mark.parametrize("settings", MOVES)
def test_masks_move_with_their_images_and_stay_classes(settings: dict[str, Any]) -> None:
    batch, fields = with_masks()
    moved = ImageAugment(**settings)(batch, drawing_from(1, 16), fields)

    assert moved["target"].dtype == batch["target"].dtype
    assert set(moved["target"].unique().tolist()) <= set(range(6))
    assert not torch.equal(moved["target"], batch["target"])
    # Inside a block interpolation changes nothing, so that image and mask agree there.
    image = moved["input"][:, 0] / 10
    inside = (image - image.round()).abs() < 1e-4
    assert float(inside.float().mean()) > 0.2
    agree = (image.round() == moved["target"])[inside]
    assert float(agree.float().mean()) > 0.98


def test_beyond_the_border_a_mask_is_its_fill(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, fields = with_masks()
    fields["target"] = Field((SIDE, SIDE), "mask", "target", size=256, fill=255)
    drawing(monkeypatch, 1.0)
    moved = ImageAugment(shift=4)(batch, drawing_from(0, 16), fields)["target"]

    assert bool((moved[:, -4:] == 255).all())
    assert torch.equal(moved[:, :-4, :-4], batch["target"][:, 4:, 4:])


def test_colors_leave_masks_and_images_are_what_they_are_alone() -> None:
    batch, fields = with_masks()
    settings = {"brightness": 0.3, "contrast": 0.3}
    found = ImageAugment(**settings)(batch, drawing_from(1, 16), fields)
    assert torch.equal(found["target"], batch["target"])
    assert torch.equal(found["input"], augmented(batch["input"], 1, **settings))

    moved = ImageAugment(rotate=20)(batch, drawing_from(1, 16), fields)["input"]
    assert torch.equal(moved, augmented(batch["input"], 1, rotate=20))


def test_what_cannot_be_moved_or_mixed_is_refused() -> None:
    _, fields = with_masks()
    boxed = {**fields, "where": Field((None, 4), "boxes", "target")}
    with pytest.raises(ValueError, match=r"rotate, crop cannot move the boxes of 'where'"):
        prepare_images(boxed, ImageAugment(rotate=5, crop=1), CPU)
    prepare_images(boxed, ImageAugment(brightness=0.1), CPU)
    with pytest.raises(ValueError, match="mixup and cutmix mix classes"):
        prepare_images(fields, ImageAugment(mixup=0.2), CPU)
