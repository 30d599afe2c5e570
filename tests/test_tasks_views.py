"""Answers from several views of an image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.tasks.classification import Classification
from tests.asking import answers, classes


class Places(nn.Module):
    """Its logits are the pixels themselves, so that they tell what was looked at."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def task(shape: tuple[int, ...] = (1, 3, 3), **settings: Any) -> Classification:
    return Classification(Places(), classes("abcdefghi", *shape), **settings)


IMAGE = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 10.0]])[None, None]


def answer(**settings: Any) -> Tensor:
    return answers(task(**settings), IMAGE).view(3, 3)


def test_an_image_counts_as_much_as_its_mirror_image() -> None:
    image = IMAGE[0, 0]

    torch.testing.assert_close(answer(mirrored=True), (image + image.flip(1)) / 2)


def test_half_of_the_weight_is_the_images_own_and_half_that_of_two_moved_ones() -> None:
    image = IMAGE[0, 0]
    down = torch.tensor([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0], [4.0, 4.0, 5.0]])
    up = torch.tensor([[5.0, 6.0, 6.0], [8.0, 10.0, 10.0], [8.0, 10.0, 10.0]])
    expected = image / 2 + down / 4 + up / 4

    torch.testing.assert_close(answer(shifted=1), expected)
    both = answer(shifted=1, mirrored=True)
    mirrored = [view.flip(1) for view in (image, down, up)]
    torch.testing.assert_close(
        both, expected / 2 + mirrored[0] / 4 + mirrored[1] / 8 + mirrored[2] / 8
    )


def test_training_sees_the_image_as_it_is() -> None:
    batch = {"input": IMAGE, "target": torch.tensor([8])}
    told = [
        some.train_step(batch, lambda loss, name="model": None)
        for some in (task(), task(mirrored=True, shifted=1))
    ]

    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((4,), {"mirrored": True}, "test-time augmentation is for images"),
        ((4,), {"shifted": 1}, "test-time augmentation is for images"),
        ((1, 3, 3), {"shifted": -1}, "number of pixels"),
    ],
)
def test_what_cannot_be_is_one_message(
    shape: tuple[int, ...], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        task(shape, **settings)
