"""Augmentation: what each change does to a picture, and that a batch's place decides the draw."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.data.digits import Digits
from dltrain.data.line import Line
from dltrain.data.pictures import PictureAugment
from dltrain.data.vectors import VectorAugment
from dltrain.types import Batch, Loader

CPU = torch.device("cpu")
SIDE = 24


def augmented(pictures: Tensor, seed: int = 0, **settings: float) -> Tensor:
    return PictureAugment(**settings)(pictures, torch.Generator().manual_seed(seed))


def coordinates(count: int) -> Tensor:
    """Pictures (count, 3, side, side) of x, of y, and of noise.

    Interpolation between linear neighbours is exact, so that the first two channels of a warped
    picture tell where each of its pixels came from.
    """
    along = torch.arange(float(SIDE)) - (SIDE - 1) / 2
    x, y = along.expand(SIDE, SIDE), along[:, None].expand(SIDE, SIDE)
    noise = torch.rand(count, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return torch.stack([x.expand(count, -1, -1), y.expand(count, -1, -1), noise], 1)


def middle(pictures: Tensor) -> Tensor:
    """What no border can have touched."""
    return pictures[..., 8:16, 8:16]


def test_nothing_asked_leaves_every_picture_as_it_is() -> None:
    pictures = coordinates(3)

    assert not PictureAugment().active
    torch.testing.assert_close(augmented(pictures), pictures, atol=1e-4, rtol=0)


def test_a_shift_moves_every_pixel_by_the_same_amount_within_its_bound() -> None:
    pictures = coordinates(200)
    moved = middle(augmented(pictures, shift=3)) - middle(pictures)
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
    pictures = coordinates(2)[:, 2:]
    drawing(monkeypatch, 1.0 if pixels > 0 else -1.0)
    found = augmented(pictures, shift=abs(pixels))

    expected = torch.zeros_like(pictures)
    if pixels > 0:
        expected[..., :-pixels, :-pixels] = pictures[..., pixels:, pixels:]
    else:
        expected[..., -pixels:, -pixels:] = pictures[..., :pixels, :pixels]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_a_flip_mirrors_left_and_right_and_only_that() -> None:
    pictures = coordinates(3)
    torch.testing.assert_close(augmented(pictures, flip=1.0), pictures.flip(-1), atol=1e-4, rtol=0)

    pictures = coordinates(400)
    found = augmented(pictures, flip=0.25)
    mirrored = found[:, 0, 0, 0] > 0
    assert int(mirrored.sum()) == pytest.approx(100, abs=30)
    torch.testing.assert_close(found[mirrored], pictures[mirrored].flip(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(found[~mirrored], pictures[~mirrored], atol=1e-4, rtol=0)


def test_a_rotation_keeps_distances_from_the_centre_and_its_bound() -> None:
    pictures = coordinates(200)
    x, y = middle(pictures)[:, 0], middle(pictures)[:, 1]
    found = middle(augmented(pictures, rotate=30))
    angles = torch.atan2(found[:, 1], found[:, 0]) - torch.atan2(y, x)
    angles = torch.rad2deg(torch.atan2(angles.sin(), angles.cos()))

    torch.testing.assert_close(found[:, :2].norm(dim=1), torch.hypot(x, y), atol=1e-3, rtol=0)
    torch.testing.assert_close(angles, angles[:, :1, :1].expand_as(angles), atol=0.01, rtol=0)
    assert float(angles.abs().max()) <= 30
    assert float(angles.max()) > 25
    assert float(angles.min()) < -25


def test_a_picture_that_is_not_square_is_rotated_without_being_sheared() -> None:
    x = torch.arange(24.0).expand(12, 24) - 11.5
    y = torch.arange(12.0)[:, None].expand(12, 24) - 5.5
    found = augmented(torch.stack([x, y])[None], rotate=30)[..., 4:8, 10:14]
    original = torch.stack([x, y])[None, :, 4:8, 10:14]

    torch.testing.assert_close(found.norm(dim=1), original.norm(dim=1), atol=1e-3, rtol=0)


def test_a_scale_of_a_tenth_magnifies_by_nine_to_eleven_tenths() -> None:
    pictures = coordinates(200)
    zoom = middle(pictures)[:, :2] / middle(augmented(pictures, scale=0.1))[:, :2]

    torch.testing.assert_close(zoom, zoom[:, :1, :1, :1].expand_as(zoom), atol=1e-3, rtol=0)
    assert 0.9 <= float(zoom.min()) < 0.92
    assert 1.08 < float(zoom.max()) <= 1.1


@pytest.mark.parametrize(
    "settings", [{"shift": 2.0}, {"rotate": 20.0}, {"scale": 0.2}, {"flip": 0.5}]
)
def test_every_picture_of_a_batch_gets_its_own_change(settings: dict[str, float]) -> None:
    same = coordinates(1).expand(16, -1, -1, -1)
    found = augmented(same, **settings)

    assert PictureAugment(**settings).active
    assert not torch.allclose(found, found[:1].expand_as(found))
    assert torch.equal(augmented(same, **settings), found)
    assert not torch.equal(augmented(same, seed=1, **settings), found)


@pytest.mark.parametrize(
    "settings", [{"shift": -1}, {"rotate": -1}, {"scale": -0.1}, {"scale": 1}, {"flip": 1.1}]
)
def test_impossible_augmentations_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not negative"):
        PictureAugment(**settings)


def digits(**settings: Any) -> Any:
    augment = PictureAugment(**settings)
    return Digits(batch_size=100, validation=100, augment=augment).loaders(CPU, seed=0)


def epoch(loader: Loader, number: int, start: int = 0) -> list[Batch]:
    loader.set_epoch(number)
    return list(loader.batches(start))


def test_augmentation_depends_on_a_batchs_place_alone() -> None:
    settings = {"shift": 1.0, "rotate": 10.0, "flip": 0.5}
    whole = [batch["input"] for batch in epoch(digits(**settings).train, 2)]
    torch.manual_seed(99)
    resumed = [batch["input"] for batch in epoch(digits(**settings).train, 2, start=5)]

    assert len(resumed) == len(whole) - 5
    assert all(torch.equal(a, b) for a, b in zip(resumed, whole[5:], strict=True))


def test_augmentation_changes_training_pictures_alone() -> None:
    plain, changed = digits(), digits(shift=2.0)

    for split in ("validation", "test"):
        pairs = zip(getattr(plain, split), getattr(changed, split), strict=True)
        assert all(torch.equal(a["input"], b["input"]) for a, b in pairs)
    first, second = (next(iter(loaders.train)) for loaders in (plain, changed))
    assert torch.equal(first["target"], second["target"])
    assert not torch.equal(first["input"], second["input"])


def test_another_epoch_changes_a_picture_in_another_way() -> None:
    plain, changed = digits().train, digits(shift=1.0).train

    def moved(number: int) -> Tensor:
        """By how much each example, in the order of the split, differs from itself."""
        pairs = zip(epoch(plain, number), epoch(changed, number), strict=True)
        order = torch.cat([plain.indices(batch) for batch in range(len(plain))])
        return torch.cat([b["input"] - a["input"] for a, b in pairs])[order.argsort()]

    assert not torch.allclose(moved(0), moved(1))


def test_background_comes_in_from_beyond_the_border(monkeypatch: pytest.MonkeyPatch) -> None:
    drawing(monkeypatch, 1.0)
    batch = next(iter(digits(shift=3.0).train))

    # Normalised, a pixel of value 0 is -mean/std.
    background = torch.full_like(batch["input"][..., -3:, :], -0.305 / 0.376)
    torch.testing.assert_close(batch["input"][..., -3:, :], background)


def test_noise_on_vectors_has_its_deviation_and_spares_evaluation() -> None:
    inputs = torch.zeros(1000, 2)
    noisy = VectorAugment(0.5)(inputs, torch.Generator().manual_seed(0))
    assert float(noisy.std()) == pytest.approx(0.5, rel=0.1)
    assert VectorAugment()(inputs, torch.Generator()) is inputs
    with pytest.raises(ValueError, match="noise"):
        VectorAugment(-1.0)

    loaders = Line(validation=0, augment=VectorAugment(0.5)).loaders(CPU, 0)
    assert sorted(next(iter(loaders.test))["input"].flatten().tolist()) == [1, 2, 3, 4]
    first, again, other = (epoch(loaders.train, number)[0]["input"] for number in (0, 0, 1))
    assert torch.equal(first, again)
    assert sorted(first.flatten().tolist()) != [1, 2, 3, 4]
    assert not torch.equal(first.sort(0).values, other.sort(0).values)
