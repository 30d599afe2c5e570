"""Pairs of adversaries: parameters by hand, images of any size that fits, classes where asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.models.generative.base_gan import Adversaries
from dltrain.models.generative.dcgan import DCGAN
from dltrain.models.generative.gan import GAN
from dltrain.runs.model_summary import summarize
from dltrain.tasks.gan import AdversarialGame
from tests.specs import images, numbers
from tests.test_models import count, layers

MNIST = (1, 28, 28)
DIGITS = images(*MNIST, classes=10)


def test_the_dense_pair_has_the_parameters_that_a_pencil_gives() -> None:
    model = GAN(DIGITS)

    norms = 2 * 256 + 2 * 512
    assert count(model.generator) == 100 * 256 + 256 * 512 + 512 * 784 + 784 + norms == 560_400
    dense = [512 * (784 + 1), 256 * (512 + 1), 256 + 1]
    assert count(model.discriminator) == sum(dense) == 533_505


def test_dcgan_on_64x64_in_color_is_the_usual_pair() -> None:
    """The figures of PyTorch's own tutorial, whose layers have no biases either."""
    model = DCGAN(images(3, 64, 64))

    growing = [100 * 512 * 16, 512 * 256 * 16, 256 * 128 * 16, 128 * 64 * 16, 64 * 3 * 16]
    assert count(model.generator) == sum(growing) + 2 * (512 + 256 + 128 + 64) == 3_576_704
    shrinking = [3 * 64 * 16, 64 * 128 * 16, 128 * 256 * 16, 256 * 512 * 16, 512 * 16]
    assert count(model.discriminator) == sum(shrinking) + 2 * (128 + 256 + 512) == 2_765_568


def test_dcgan_on_mnist_begins_with_four_by_four_maps() -> None:
    """Of 7 halves make 4: a kernel of 3 does that, where others have 4."""
    model = DCGAN(DIGITS, generator_width=32, discriminator_width=16)

    growing = [100 * 128 * 16, 128 * 64 * 9, 64 * 32 * 16, 32 * 1 * 16]
    assert count(model.generator) == sum(growing) + 2 * (128 + 64 + 32)
    shrinking = [1 * 16 * 16, 16 * 32 * 16, 32 * 64 * 9, 64 * 16]
    assert count(model.discriminator) == sum(shrinking) + 2 * (32 + 64)


@pytest.mark.parametrize(
    ("kind", "settings", "maps"),
    [(GAN, {}, 256 + 512), (DCGAN, {"generator_width": 32}, 128 + 64 + 32)],
)
def test_a_class_gives_the_generator_scales_and_shifts_of_its_own(
    kind: Callable[..., Adversaries], settings: dict[str, Any], maps: int
) -> None:
    """Of every unit, or map; of DCGAN's first maps, of 4x4, those of every place."""
    plain, by_class = (
        kind(DIGITS, conditional=conditional, **settings) for conditional in (False, True)
    )

    of_all = 2 * maps
    of_a_class = of_all + (2 * 128 * (4 * 4 - 1) if kind is DCGAN else 0)
    added = 10 * of_a_class - of_all
    assert count(by_class.generator) == count(plain.generator) + added


def test_a_critic_without_batch_norm_has_biases_instead() -> None:
    model = DCGAN(DIGITS, discriminator_width=16, batch_norm=False)

    convolutions = [16 * (16 + 1), 32 * (16 * 16 + 1), 64 * (32 * 9 + 1)]
    assert count(model.discriminator) == sum(convolutions) + 64 * 16 + 1
    assert not layers(model.discriminator, nn.BatchNorm2d)
    assert len(layers(model.generator, nn.BatchNorm2d)) == 3


def test_the_discriminator_scores_a_batch_alike_in_training_and_after() -> None:
    """Its norm goes by the batch: real and made images have statistics of their own."""
    model = DCGAN(DIGITS)
    images = torch.rand(16, *MNIST)
    for _ in range(3):
        model.discriminator(torch.zeros(16, *MNIST))

    trained = model.discriminator(images)

    torch.testing.assert_close(model.eval().discriminator(images), trained)


def test_weights_begin_as_the_paper_has_them() -> None:
    model = DCGAN(images(3, 64, 64))

    for network in (model.generator, model.discriminator):
        for layer in layers(network, nn.Linear) + layers(network, nn.Conv2d):
            assert float(layer.weight.mean().detach()) == pytest.approx(0, abs=2e-3)
            assert float(layer.weight.std().detach()) == pytest.approx(0.02, rel=0.05)


MODELS = [
    (GAN, {"generator_hidden": [8], "discriminator_hidden": [8]}),
    (DCGAN, {"generator_width": 4, "discriminator_width": 4}),
]


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), MNIST, (3, 32, 32), (3, 64, 64), (2, 24, 40), (1, 27, 14)]
)
@pytest.mark.parametrize(("kind", "small"), MODELS)
@pytest.mark.parametrize("conditional", [False, True])
def test_noise_becomes_images_and_images_a_score_each(
    kind: Callable[..., Adversaries],
    small: dict[str, Any],
    conditional: bool,
    shape: tuple[int, int, int],
) -> None:
    model = kind(images(*shape, classes=10), noise_size=7, conditional=conditional, **small)
    labels = torch.tensor([0, 9, 3]) if conditional else None

    generated = model.generator(torch.randn(3, 7), labels)

    assert generated.shape == (3, *shape)
    assert float(generated.detach().abs().max()) <= 1
    assert model.discriminator(generated, labels).shape == (3,)
    assert model.discriminator(generated, None).shape == (3,)


@pytest.mark.parametrize(("kind", "small"), MODELS)
def test_a_conditional_pair_makes_and_scores_by_class(
    kind: Callable[..., Adversaries], small: dict[str, Any]
) -> None:
    model = kind(DIGITS, conditional=True, **small).eval()
    noise, images = torch.randn(1, 100).expand(2, -1), torch.rand(1, *MNIST).expand(2, -1, -1, -1)
    ones, both = torch.tensor([1, 1]), torch.tensor([1, 7])

    same, other = model.generator(noise, ones), model.generator(noise, both)
    assert torch.equal(same[0], same[1])
    assert not torch.equal(other[0], other[1])
    scores = model.discriminator(images, both)
    assert scores[0] != scores[1]
    # What a class adds is the product of its vector and the image's features.
    features = model.discriminator.features(images)
    added = scores - model.discriminator(images, None)
    torch.testing.assert_close(added, (features * model.discriminator.embedding(both)).sum(1))


@pytest.mark.parametrize(("kind", "small"), MODELS)
def test_spectral_norm_holds_every_layer_of_the_discriminator_at_one(
    kind: Callable[..., Adversaries], small: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    model = kind(DIGITS, conditional=True, spectral_norm=True, **small)
    for _ in range(100):  # power iterations
        model.discriminator(torch.randn(2, *MNIST), torch.tensor([0, 1]))
    model.eval()

    kinds = (nn.Linear, nn.Conv2d, nn.Embedding)
    layered = [layer for kind in kinds for layer in layers(model.discriminator, kind)]
    assert len(layered) == (5 if kind is DCGAN else 3)
    for layer in layered:
        largest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2)
        assert float(largest) == pytest.approx(1, abs=0.02)
    assert not any("original" in name for name, _ in model.generator.named_parameters())


def test_dropout_is_the_discriminators() -> None:
    for model in (GAN(DIGITS, dropout=0.3), DCGAN(DIGITS, dropout=0.3)):
        assert {layer.p for layer in layers(model.discriminator, nn.Dropout)} == {0.3}
        assert not layers(model.generator, nn.Dropout)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GAN(numbers(13)), "a GAN reads images"),
        (lambda: DCGAN(numbers(13)), "a DCGAN reads images"),
        (lambda: DCGAN(images(1, 6, 28)), "6x28 does not allow: sides are at least 7"),
        (lambda: GAN(DIGITS, noise_size=0), "noise_size"),
        (lambda: GAN(DIGITS, generator_hidden=[0]), "at least one unit"),
        (lambda: DCGAN(DIGITS, generator_width=0), "at least 1"),
        (lambda: GAN(images(*MNIST), conditional=True), "no classes"),
    ],
)
def test_what_cannot_be_is_one_message(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_layer_under_spectral_norm_is_still_one_row_of_the_summary() -> None:
    plain, normed = (
        summarize(
            AdversarialGame(GAN(DIGITS, spectral_norm=normed), DIGITS),
            {"input": torch.rand(1, *MNIST)},
        )
        for normed in (False, True)
    )

    assert [row[1:] for row in normed.rows] == [row[1:] for row in plain.rows]
    assert [row[2] for row in plain.rows if row[2]] == [401_920, 131_328, 257, 1_093_905]
