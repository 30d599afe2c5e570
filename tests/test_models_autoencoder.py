"""Autoencoders: their layers by hand, on every kind of image, and what their outputs say."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Normal

from dltrain.models.generative.autoencoder import Autoencoder, ConvolutionalAutoencoder
from dltrain.models.generative.vae import VAE, ConvolutionalVAE
from dltrain.models.layers.likelihoods import Bernoulli, Gaussian
from tests.test_models import count, layer_counts, layers

MNIST = (1, 28, 28)
KINDS = (Autoencoder, ConvolutionalAutoencoder, VAE, ConvolutionalVAE)
CONVOLUTIONAL = (ConvolutionalAutoencoder, ConvolutionalVAE)
BACK = [512 * (50 + 1), 512 * (512 + 1), 784 * (512 + 1)]


@pytest.mark.parametrize(
    ("model", "by_hand"),
    [
        (
            Autoencoder(MNIST, latent_size=32, hidden=[512, 256]),
            [512 * 785, 256 * 513, 32 * 257, 256 * 33, 512 * 257, 784 * 513],
        ),
        (Autoencoder((3, 4, 4), latent_size=5, hidden=[]), [5 * 49, 48 * 6]),
        (VAE(MNIST, latent_size=50), [512 * 785, 512 * 513, 2 * 50 * 513, *BACK]),
        # One number, the std of a pixel, more.
        (
            VAE(MNIST, latent_size=50, decoder="gaussian"),
            [512 * 785, 512 * 513, 100 * 513, *BACK, 1],
        ),
        (
            ConvolutionalAutoencoder(MNIST, latent_size=32, channels=[8, 16], dense=[100]),
            [
                *(8 * (16 + 1), 16 * (16 * 8 + 1), 100 * (16 * 7 * 7 + 1), 32 * 101),
                *(100 * 33, 16 * 7 * 7 * 101, 8 * 16 * 16 + 8, 8 * 16 + 1),
            ],
        ),
    ],
)
def test_each_layer_has_the_parameters_that_a_pencil_gives(
    model: nn.Module, by_hand: list[int]
) -> None:
    assert layer_counts(model) == by_hand
    assert count(model) == sum(by_hand)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 8, 8), MNIST, (3, 32, 32), (3, 64, 64), (2, 21, 30)])
def test_images_of_any_size_come_back_in_that_size(kind: Any, shape: tuple[int, int, int]) -> None:
    model = kind(shape, latent_size=3)
    images = torch.randn(2, *shape)

    codes = model.encode(images)

    assert codes.shape == (2, 3)
    assert model.decode(codes).shape == images.shape
    torch.testing.assert_close(model(images), model.decode(codes))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_passes_through_no_more_than_its_code(kind: Any) -> None:
    model = kind((1, 8, 8), latent_size=1)
    jacobian = torch.autograd.functional.jacobian(model, torch.randn(1, 1, 8, 8))

    assert torch.linalg.matrix_rank(jacobian.view(64, 64), rtol=1e-4) == 1


def test_a_variational_one_reads_two_numbers_a_dimension() -> None:
    model = VAE(MNIST, latent_size=3)
    images = torch.randn(4, *MNIST)

    mean, log_variance = model.posterior(images)

    assert mean.shape == log_variance.shape == (4, 3)
    assert not torch.equal(mean, log_variance)
    assert torch.equal(model.encode(images), mean)


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_an_image_that_cannot_be_halved_so_often_is_refused(kind: Any) -> None:
    assert kind((1, 8, 8), channels=[2, 2, 2])(torch.randn(1, 1, 8, 8)).shape == (1, 1, 8, 8)
    with pytest.raises(ValueError, match=r"nothing is left.*1x8x8.*halved 4 times"):
        kind((1, 8, 8), channels=[2, 2, 2, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_image_and_layers_without_units_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="autoencoder reads images"):
        kind((4,))
    with pytest.raises(ValueError, match="latent_size must be at least 1"):
        kind(MNIST, latent_size=0)
    name = "channels" if kind in CONVOLUTIONAL else "hidden"
    with pytest.raises(ValueError, match="at least one unit"):
        kind(MNIST, **{name: [8, 0]})


@pytest.mark.parametrize("kind", KINDS)
def test_the_initial_weights_are_those_asked_for(kind: Any) -> None:
    model = kind(MNIST, init="zeros")

    assert not any(bool(layer.weight.any()) for layer in layers(model, nn.Linear))


def test_the_probabilities_of_all_images_add_up_to_one() -> None:
    outputs = torch.randn(3, 1, 2, 2)
    images = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).view(16, 1, 1, 2, 2)

    found = Bernoulli().log_probability(outputs, images)

    assert found.shape == (16, 3)
    torch.testing.assert_close(found.exp().sum(0), torch.ones(3))


def test_log_probabilities_are_those_of_the_distributions() -> None:
    outputs, gray = 3 * torch.randn(5, 3, 4, 6), torch.rand(5, 3, 4, 6)
    binary = gray.round()
    bernoulli, gaussian = Bernoulli(), Gaussian(scale=0.3, learned=True)

    by_torch = TorchBernoulli(logits=outputs).log_prob(binary).sum((1, 2, 3))
    torch.testing.assert_close(bernoulli.log_probability(outputs, binary), by_torch)
    torch.testing.assert_close(bernoulli.mean(outputs), TorchBernoulli(logits=outputs).mean)
    by_torch = Normal(outputs, 0.3).log_prob(gray).sum((1, 2, 3))
    torch.testing.assert_close(gaussian.log_probability(outputs, gray), by_torch)
    assert torch.equal(gaussian.mean(outputs), outputs)


def test_a_learned_std_comes_to_that_of_the_errors() -> None:
    gaussian = Gaussian(scale=1.0, learned=True)
    errors = 0.2 * torch.randn(50, 1, 8, 8)
    optimizer = torch.optim.Adam(gaussian.parameters(), lr=0.1)

    for _ in range(80):
        optimizer.zero_grad()
        (-gaussian.log_probability(torch.zeros_like(errors), errors).mean()).backward()
        optimizer.step()

    scale = gaussian.log_scale.exp().item()
    assert scale == pytest.approx(errors.square().mean().sqrt().item(), rel=0.02)
    assert not Gaussian(scale=0.2, learned=False).log_scale.requires_grad
    with pytest.raises(ValueError, match="scale is a standard deviation"):
        Gaussian(scale=0.0, learned=True)
