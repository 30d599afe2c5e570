"""The tutorials' convolutional networks: their parameters by hand, on any image that fits."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import nn

from dltrain.models.layers.activations import ACTIVATIONS, Activation, pooled
from dltrain.models.vision.cnn import CNN
from tests.test_models import count, layer_counts, layers, names

MNIST: dict[str, Any] = {"input_shape": (1, 28, 28), "outputs": 10}


@pytest.mark.parametrize(
    ("settings", "by_hand"),
    [
        (
            {**MNIST, "channels": [32, 64], "dense": [128]},
            [32 * (3 * 3 * 1 + 1), 64 * (3 * 3 * 32 + 1), 128 * (7 * 7 * 64 + 1), 10 * (128 + 1)],
        ),
        (
            {**MNIST, "channels": [32], "dense": [64]},
            [32 * (3 * 3 * 1 + 1), 64 * (14 * 14 * 32 + 1), 10 * (64 + 1)],
        ),
        (
            {"input_shape": (3, 64, 64), "outputs": 2, "channels": [32, 64, 128], "dense": [128]},
            [
                32 * (3 * 3 * 3 + 1),
                64 * (3 * 3 * 32 + 1),
                128 * (3 * 3 * 64 + 1),
                128 * (8 * 8 * 128 + 1),
                2 * (128 + 1),
            ],
        ),
        (
            {"input_shape": (3, 32, 32), "outputs": 10, "channels": [6], "dense": [], "kernel": 5},
            [6 * (5 * 5 * 3) + 6, 10 * (16 * 16 * 6 + 1)],
        ),
        # Keras: 28 to 26 to 13, to 11 to 5; a dropout before the only dense layer has no weights.
        (
            {**MNIST, "dense": [], "padding": "valid", "conv_dropout": 0.25},
            [32 * (3 * 3 * 1 + 1), 64 * (3 * 3 * 32 + 1), 10 * (5 * 5 * 64 + 1)],
        ),
        (
            {**MNIST, "channels": [8], "pooling": 1, "batch_norm": True},
            [8 * 3 * 3 * 1, 8 + 8, 128 * (28 * 28 * 8 + 1), 10 * (128 + 1)],
        ),
        ({**MNIST, "channels": [], "dense": []}, [10 * (28 * 28 + 1)]),
    ],
)
def test_each_layer_has_the_parameters_that_a_pencil_gives(
    settings: dict[str, Any], by_hand: list[int]
) -> None:
    assert layer_counts(CNN(**settings)) == by_hand


def test_six_kernels_of_5x5_on_three_channels_are_456_parameters() -> None:
    model = CNN((3, 32, 32), 10, channels=[6], kernel=5)

    assert count(layers(model, nn.Conv2d)[0]) == 456


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 32, 32), (4, 20, 33)])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_it_takes_its_sizes_from_the_image(
    shape: tuple[int, int, int], kernel: int, padding: Any
) -> None:
    model = CNN(shape, 7, kernel=kernel, padding=padding, dense=[5])

    assert model(torch.randn(2, *shape)).shape == (2, 7)


def test_a_block_is_convolution_norm_activation_pooling_dropout() -> None:
    model = CNN(
        **MNIST, activation="silu", batch_norm=True, dropout=0.5, conv_dropout=0.25, dense=[9]
    )
    block = ["Conv2d", "BatchNorm2d", "SiLU", "MaxPool2d", "Dropout"]

    assert names(model) == [*block, *block, "Flatten", "Linear", "SiLU", "Dropout", "Linear"]
    assert [layer.p for layer in layers(model, nn.Dropout)] == [0.25, 0.25, 0.5]
    # A bias under batch norm would be subtracted again.
    assert [layer.bias is None for layer in layers(model, nn.Conv2d)] == [True, True]


def test_nothing_is_dropped_normalized_or_pooled_unless_asked() -> None:
    assert names(CNN(**MNIST, pooling=1)) == [
        *("Conv2d", "ReLU", "Conv2d", "ReLU"),
        *("Flatten", "Linear", "ReLU", "Linear"),
    ]


@pytest.mark.parametrize("name", get_args(Activation))
def test_pooling_in_the_cheaper_order_gives_what_the_plain_order_gives(name: Activation) -> None:
    torch.manual_seed(0)
    maps = 3 * torch.randn(2, 3, 8, 8)
    pooling = nn.MaxPool2d(2)

    cheaper = nn.Sequential(*pooled(name, pooling))

    torch.testing.assert_close(cheaper(maps), pooling(ACTIVATIONS[name]()(maps)), rtol=0, atol=0)


def test_rectifiers_work_on_what_pooling_left() -> None:
    assert names(CNN(**MNIST))[:3] == ["Conv2d", "MaxPool2d", "ReLU"]


def test_initial_weights_are_as_asked() -> None:
    model = CNN(**MNIST, init="zeros")

    assert not any(parameter.any() for parameter in model.parameters())


@pytest.mark.parametrize("shape", [(784,), (28, 28)])
def test_what_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images") as raised:
        CNN(shape, 10)
    assert str(shape) in str(raised.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": [8] * 4},
        {"channels": [8, 8], "kernel": 5, "padding": "valid"},
        {"pooling": 9},
    ],
)
def test_blocks_that_leave_nothing_of_the_image_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="1x8x8"):
        CNN((1, 8, 8), 10, **settings)


@pytest.mark.parametrize(
    "settings",
    [{"channels": [8, 0]}, {"dense": [-1]}, {"kernel": 0}, {"pooling": 0}, {"dropout": 1.5}],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"at least|fraction"):
        CNN(**MNIST, **settings)
