"""Networks: the sizes that the papers and a pencil give, on any shape that makes sense."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import pytest
import torch
from torch import nn

from dltrain.config.values import fits
from dltrain.models.layers.activations import ACTIVATIONS, Activation
from dltrain.models.layers.init import Init
from dltrain.models.linear import LinearRegression
from dltrain.models.mlp import MLP
from dltrain.models.vision.lenet import LeNet5, ScaledTanh, TrainableSubsampling

MNIST = {"input_shape": (1, 28, 28), "outputs": 10}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def layer_counts(model: nn.Module) -> list[int]:
    """Parameters of each layer that has any, in order."""
    leaves = [module for module in model.modules() if not list(module.children())]
    return [count(leaf) for leaf in leaves if count(leaf)]


def names(model: nn.Module) -> list[str]:
    return [type(m).__name__ for m in model.modules() if not list(m.children())]


def layers(model: nn.Module, kind: type[nn.Module]) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, kind)]


def test_lenet5_has_the_papers_parameters_layer_by_layer() -> None:
    convolutions = [6 * (1 * 25 + 1), 16 * (6 * 25 + 1)]
    dense = [120 * (16 * 5 * 5 + 1), 84 * (120 + 1), 10 * (84 + 1)]

    assert layer_counts(LeNet5(**MNIST)) == convolutions + dense
    assert count(LeNet5(**MNIST)) == 61_706


def test_lenet5_of_1998_adds_a_coefficient_and_a_bias_for_each_subsampled_map() -> None:
    model = LeNet5(**MNIST, variant=1998)

    assert layer_counts(model) == [156, 2 * 6, 2416, 2 * 16, 48_120, 10_164, 850]
    assert count(model) == 61_706 + 44


def test_the_variants_of_lenet5_have_their_own_activation_and_subsampling() -> None:
    modern, old = LeNet5(**MNIST), LeNet5(**MNIST, variant=1998)

    assert len(layers(modern, nn.ReLU)) == 4
    assert len(layers(modern, nn.MaxPool2d)) == 2
    assert not layers(modern, ScaledTanh) + layers(modern, TrainableSubsampling)
    assert len(layers(old, TrainableSubsampling)) == 2
    assert layers(old, ScaledTanh)
    assert not layers(old, nn.ReLU) + layers(old, nn.MaxPool2d)


def test_scaled_tanh_is_one_at_one() -> None:
    # The paper chose its constants for f(1) = 1 and f(-1) = -1.
    ends = ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0]))

    torch.testing.assert_close(ends, torch.tensor([-1.0, 0.0, 1.0]), atol=1e-4, rtol=0)


def test_trainable_subsampling_sums_squares_of_four() -> None:
    layer = TrainableSubsampling(2)
    with torch.no_grad():
        layer.coefficient.copy_(torch.tensor([0.5, 2.0]))
        layer.bias.copy_(torch.tensor([1.0, -1.0]))
    maps = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 2, 4, 4)
    sums = torch.tensor([[0 + 1 + 4 + 5, 2 + 3 + 6 + 7], [8 + 9 + 12 + 13, 10 + 11 + 14 + 15.0]])

    torch.testing.assert_close(layer(maps)[0], torch.stack([0.5 * sums + 1, 2 * sums - 1]))


@pytest.mark.parametrize(
    ("shape", "first_dense"),
    [
        ((1, 8, 8), 16 * 5 * 5),
        ((1, 28, 28), 16 * 5 * 5),
        ((3, 32, 32), 16 * 5 * 5),
        ((3, 64, 64), 16 * 13 * 13),
        ((1, 20, 40), 16 * 5 * 7),
        ((2, 1, 1), 16 * 5 * 5),
    ],
)
@pytest.mark.parametrize("variant", ["modern", 1998])
def test_lenet5_takes_its_sizes_from_the_image(
    shape: tuple[int, int, int], first_dense: int, variant: Literal["modern", 1998]
) -> None:
    model = LeNet5(input_shape=shape, outputs=7, variant=variant)

    assert model(torch.randn(2, *shape)).shape == (2, 7)
    assert layers(model, nn.Linear)[0].in_features == first_dense
    assert layers(model, nn.Conv2d)[0].in_channels == shape[0]


@pytest.mark.parametrize(
    ("size", "rows", "columns"),
    [
        ((28, 28), slice(2, 30), slice(2, 30)),
        ((8, 8), slice(0, 32), slice(0, 32)),
        ((8, 4), slice(0, 32), slice(8, 24)),
        ((20, 64), slice(6, 26), slice(0, 64)),
    ],
)
def test_lenet5_enlarges_a_small_image_and_centers_it_on_its_plane(
    size: tuple[int, int], rows: slice, columns: slice
) -> None:
    model = LeNet5((1, *size), 10)
    seen: list[torch.Tensor] = []
    layers(model, nn.Conv2d)[0].register_forward_pre_hook(lambda _, inputs: seen.append(*inputs))

    model(torch.ones(1, 1, *size))

    plane = torch.zeros(1, 1, 32, max(32, size[1]))
    plane[..., rows, columns] = 1
    torch.testing.assert_close(seen[0], plane)


@pytest.mark.parametrize("shape", [(1,), (784,), (28, 28), (5, 1, 28, 28)])
def test_lenet5_refuses_what_is_no_image(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="images") as raised:
        LeNet5(input_shape=shape, outputs=10)
    assert str(shape) in str(raised.value)


def test_the_mlp_has_the_parameters_of_its_layers() -> None:
    model = MLP(**MNIST)

    assert layer_counts(model) == [256 * 785, 128 * 257, 10 * 129]
    assert count(model) == 235_146


@pytest.mark.parametrize("shape", [(1,), (7,), (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)])
def test_dense_models_take_any_shape(shape: tuple[int, ...]) -> None:
    inputs = torch.randn(3, *shape)

    assert MLP(shape, 4, hidden=[5])(inputs).shape == (3, 4)
    assert LinearRegression(shape, 4)(inputs).shape == (3, 4)


def test_an_mlp_without_hidden_layers_is_linear() -> None:
    assert names(MLP((4,), 2, hidden=[])) == ["Flatten", "Linear"]


@pytest.mark.parametrize("hidden", [[0], [16, -1]])
def test_an_mlp_refuses_empty_layers(hidden: list[int]) -> None:
    with pytest.raises(ValueError, match="at least one unit"):
        MLP((4,), 2, hidden=hidden)


@pytest.mark.parametrize("fraction", [-0.1, 1.5])
def test_an_impossible_dropout_is_refused(fraction: float) -> None:
    for model in (MLP, LeNet5):
        with pytest.raises(ValueError, match="fraction"):
            model(**MNIST, dropout=fraction)


def test_every_hidden_layer_is_dense_norm_activation_dropout() -> None:
    model = MLP((4,), 2, hidden=[5, 6], batch_norm=True, dropout=0.5, input_dropout=0.2)
    block = ["Linear", "BatchNorm1d", "ReLU", "Dropout"]

    assert names(model) == ["Flatten", "Dropout", *block, *block, "Linear"]
    assert [layer.p for layer in layers(model, nn.Dropout)] == [0.2, 0.5, 0.5]
    # A bias under batch norm would be subtracted again; the last layer has no norm and keeps it.
    assert [layer.bias is None for layer in layers(model, nn.Linear)] == [True, True, False]


def test_nothing_is_dropped_or_normalized_unless_asked() -> None:
    for model in (MLP(**MNIST), LeNet5(**MNIST)):
        assert not layers(model, nn.Dropout) + layers(model, nn.BatchNorm1d)


def test_lenet5_drops_units_of_its_hidden_dense_layers_only() -> None:
    model = LeNet5(**MNIST, dropout=0.3)

    dense_part = names(model)[names(model).index("Flatten") :]
    hidden = ["Linear", "ReLU", "Dropout"]
    assert dense_part == ["Flatten", *hidden, *hidden, "Linear"]
    assert [layer.p for layer in layers(model, nn.Dropout)] == [0.3, 0.3]


@pytest.mark.parametrize("name", get_args(Activation))
def test_every_activation_is_used_by_name(name: Activation) -> None:
    model = MLP((4,), 2, hidden=[5, 6], activation=name)

    assert len(layers(model, ACTIVATIONS[name])) == 2
    reference = getattr(torch.nn.functional, name)
    values = torch.linspace(-2, 2, 9)
    torch.testing.assert_close(ACTIVATIONS[name]()(values), reference(values))


def test_every_activation_of_the_table_can_be_configured() -> None:
    assert set(get_args(Activation)) == set(ACTIVATIONS)
    assert not fits("softplus", Activation)


@pytest.mark.parametrize("init", get_args(Init))
def test_every_initialization_has_the_spread_of_its_paper(init: Init) -> None:
    torch.manual_seed(0)
    fan_in, fan_out = 400, 600
    model = MLP((fan_in,), fan_out, hidden=[], init=init)
    (layer,) = layers(model, nn.Linear)
    spread = {
        "default": 1 / math.sqrt(3 * fan_in),
        "zeros": 0.0,
        "normal": 0.01,
        "xavier": math.sqrt(2 / (fan_in + fan_out)),
        "kaiming": math.sqrt(2 / fan_in),
        "orthogonal": 1 / math.sqrt(fan_out),
    }[init]

    assert float(layer.weight.detach().std()) == pytest.approx(spread, rel=0.02)
    assert bool(layer.bias.any()) == (init == "default")
    if init == "orthogonal":
        gram = layer.weight.detach().T @ layer.weight.detach()
        torch.testing.assert_close(gram, torch.eye(fan_in), atol=1e-4, rtol=0)


def test_initialization_reaches_convolutions_too() -> None:
    for model in (LeNet5(**MNIST, init="zeros"), LinearRegression((4,), 1, init="zeros")):
        assert not any(p.any() for m in layers(model, nn.Linear) for p in m.parameters())
        assert not any(p.any() for m in layers(model, nn.Conv2d) for p in m.parameters())


@pytest.mark.parametrize("build", [MLP, LeNet5, LinearRegression])
def test_the_same_seed_gives_the_same_weights(build: type[nn.Module]) -> None:
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(build(**MNIST).parameters())

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_linear_regression_is_a_matrix_and_a_bias() -> None:
    model = LinearRegression((2, 3), 4)
    inputs = torch.randn(5, 2, 3)
    weight, bias = model.parameters()

    assert (weight.shape, bias.shape) == ((4, 6), (4,))
    torch.testing.assert_close(model(inputs), inputs.reshape(5, 6) @ weight.T + bias)
