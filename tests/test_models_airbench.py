"""Whitened patches: what they are by hand, when they are measured, and the network behind them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional

from dltrain.models.vision.airbench import EPSILON, Airbench, Whitening
from tests.conftest import Train
from tests.test_models import count

CIFAR = (3, 32, 32)


def images(count: int = 64) -> torch.Tensor:
    """Neighbors that resemble each other, as in images."""
    drawn = torch.randn(count, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    return functional.avg_pool2d(drawn, 3, stride=1) + drawn.mean(1, keepdim=True)[..., 1:-1, 1:-1]


def test_the_network_has_the_parameters_that_a_pencil_gives() -> None:
    model = Airbench(CIFAR, 10)

    whitening = 24 * 3 * 2 * 2 + 24
    kernels = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 3 * 256 * 256)
    norms = 4 * (64 + 256 + 256)
    assert count(model) == whitening + kernels + norms + 256 * 10
    assert model(torch.rand(2, *CIFAR)).shape == (2, 10)


def test_numbers_of_patches_are_uncorrelated_and_of_variance_one_in_both_signs() -> None:
    layer = Whitening(3)
    with torch.no_grad():
        layer.conv.bias.zero_()
        found = layer(images())

    one, other = found.chunk(2, dim=1)
    torch.testing.assert_close(one, -other)
    numbers = one.transpose(0, 1).flatten(1).double()
    covariance = numbers @ numbers.T / numbers.shape[1]
    assert EPSILON < 1e-3 < float(images().var())
    torch.testing.assert_close(covariance, torch.eye(12).double(), atol=0.05, rtol=0)


def test_it_is_measured_once_and_in_training_alone() -> None:
    layer = Whitening(3)
    before = layer.conv.weight.clone()

    layer.eval()(images())
    assert torch.equal(layer.conv.weight, before)
    layer.train()(images())
    measured = layer.conv.weight.clone()
    assert not torch.equal(measured, before)
    layer(7 * images())
    assert torch.equal(layer.conv.weight, measured)
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["conv.bias"]


def test_a_loaded_layer_is_not_measured_again() -> None:
    trained = Whitening(3)
    trained(images())
    loaded = Whitening(3)
    loaded.load_state_dict(copy.deepcopy(trained.state_dict()))

    loaded(7 * images())

    assert torch.equal(loaded.conv.weight, trained.conv.weight)


def test_convolutions_begin_by_handing_on_what_they_are_given() -> None:
    kernel = Airbench(CIFAR, 10).features[2].weight
    given = torch.rand(1, 24, 5, 5)

    handed_on = functional.conv2d(given, kernel, padding="same")[:, :24]

    torch.testing.assert_close(handed_on, given)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((13,), [8], "reads images"),
        ((1, 8, 8), [8, 8, 8], "needs 9 pixels a side"),
        (CIFAR, [], "at least one map"),
        (CIFAR, [0], "at least one map"),
    ],
)
def test_what_cannot_be_is_one_message(
    shape: tuple[int, ...], channels: list[int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Airbench(shape, 10, channels)


def test_it_learns_digits(train: Train) -> None:
    trained = train(
        *("model=airbench", "data=digits", "model.channels=[32,64]", "data.batch_size=64"),
        *("optimizer=muon", "optimizer.lr=0.01", "schedule=onecycle"),
        *("trainer.epochs=5", "device=cpu"),
    )

    assert trained.summary["test"]["accuracy"] > 0.9
