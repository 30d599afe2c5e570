"""AlexNet: the papers' sizes, and one step against float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hydra.utils import get_class
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from dltrain.core.update import Optimize
from dltrain.models.layers.shapes import SMALLEST
from dltrain.models.vision.airbench import Airbench
from dltrain.models.vision.alexnet import AlexNet
from dltrain.models.vision.cnn import CNN
from dltrain.optim.groups import groups_of
from dltrain.tasks.classification import Classification
from tests.asking import classes
from tests.conftest import Compose
from tests.test_models import count, layer_counts, layers, names

IMAGENET: dict[str, Any] = {"input_shape": (3, 224, 224), "outputs": 1000}
CIFAR: dict[str, Any] = {"input_shape": (3, 32, 32), "outputs": 10}
# The smallest images of which five convolutions and three poolings leave anything.
TINY: dict[str, Any] = {"input_shape": (3, 63, 63), "outputs": 10, "dense": [64, 64]}


def form(name: str, compose: Compose, **settings: Any) -> AlexNet:
    """The network of a config file, without memory for its weights."""
    config = {k: v for k, v in compose(f"model={name}")["model"].items() if k != "_target_"}
    with torch.device("meta"):
        return AlexNet(**{**config, **settings})


def map_sides(model: AlexNet, side: int) -> list[int]:
    """The sides of what the convolutions and poolings give, in order."""
    found = []
    maps = torch.zeros(1, 3, side, side, device="meta")
    for layer in model.features:
        maps = layer(maps)
        if isinstance(layer, (nn.Conv2d, nn.MaxPool2d)):
            found.append(maps.shape[-1])
    return found


def test_the_network_of_2012_has_the_papers_parameters(compose: Compose) -> None:
    model = form("alexnet", compose, **IMAGENET)

    # Convolutions 2, 4 and 5 see the half of the maps that is on their own GPU.
    assert layer_counts(model) == [
        96 * (11 * 11 * 3 + 1),
        256 * (5 * 5 * 48 + 1),
        384 * (3 * 3 * 256 + 1),
        384 * (3 * 3 * 192 + 1),
        256 * (3 * 3 * 192 + 1),
        4096 * (6 * 6 * 256 + 1),
        4096 * (4096 + 1),
        1000 * (4096 + 1),
    ]
    assert count(model) == 60_965_224


def test_the_one_column_form_has_torchvisions_parameters(compose: Compose) -> None:
    model = form("alexnet_one_column", compose, **IMAGENET)

    assert layer_counts(model) == [
        64 * (11 * 11 * 3 + 1),
        192 * (5 * 5 * 64 + 1),
        384 * (3 * 3 * 192 + 1),
        256 * (3 * 3 * 384 + 1),
        256 * (3 * 3 * 256 + 1),
        4096 * (6 * 6 * 256 + 1),
        4096 * (4096 + 1),
        1000 * (4096 + 1),
    ]
    assert count(model) == 61_100_840


def test_the_small_form_has_these_parameters_and_multiply_adds(compose: Compose) -> None:
    model = form("alexnet_small", compose, **CIFAR)

    # A scale and a shift for each map take the place of its bias.
    assert layer_counts(model) == [
        *(32 * 3 * 3 * 3, 32 + 32),
        *(96 * 3 * 3 * 32, 96 + 96),
        *(192 * 3 * 3 * 96, 192 + 192),
        *(128 * 3 * 3 * 192, 128 + 128),
        *(128 * 3 * 3 * 128, 128 + 128),
        256 * (3 * 3 * 128 + 1),
        256 * (256 + 1),
        10 * (256 + 1),
    ]
    assert map_sides(model, 32) == [32, 15, 15, 7, 7, 7, 7, 3]
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 32, 32, device="meta"))
    dense = 256 * 3 * 3 * 128 + 256 * 256 + 10 * 256
    convolutions = 32 * 32 * 32 * 27 + 15 * 15 * 96 * 288
    convolutions += 7 * 7 * (192 * 864 + 128 * 1728 + 128 * 1152)
    assert counter.get_total_flops() == 2 * (convolutions + dense) == 2 * 33_660_416


@pytest.mark.parametrize("name", ["alexnet", "alexnet_one_column"])
def test_the_padding_makes_of_224_the_papers_55(name: str, compose: Compose) -> None:
    model = form(name, compose, **IMAGENET)

    assert map_sides(model, 224) == [55, 27, 27, 13, 13, 13, 13, 6]


def test_the_layers_come_in_the_papers_order(compose: Compose) -> None:
    model = form("alexnet", compose, **IMAGENET)
    hidden = ["Linear", "ReLU", "Dropout"]

    assert names(model) == [
        *["Conv2d", "ReLU", "LocalResponseNorm", "MaxPool2d"] * 2,
        *["Conv2d", "ReLU"] * 2,
        *["Conv2d", "MaxPool2d", "ReLU"],
        *["Flatten", *hidden, *hidden, "Linear"],
    ]
    assert {(pool.kernel_size, pool.stride) for pool in layers(model, nn.MaxPool2d)} == {(3, 2)}
    assert [layer.p for layer in layers(model, nn.Dropout)] == [0.5, 0.5]


def test_the_one_column_form_is_not_normalized_and_the_small_one_by_batch(
    compose: Compose,
) -> None:
    column, small = (
        form("alexnet_one_column", compose, **IMAGENET),
        form("alexnet_small", compose, **CIFAR),
    )

    assert not layers(column, nn.LocalResponseNorm) + layers(column, nn.BatchNorm2d)
    assert names(small)[:4] == ["Conv2d", "BatchNorm2d", "MaxPool2d", "ReLU"]
    assert not layers(small, nn.LocalResponseNorm)


def test_responses_are_normalized_by_the_papers_formula() -> None:
    torch.manual_seed(0)
    layer = layers(AlexNet(**TINY), nn.LocalResponseNorm)[0]
    maps = 30 * torch.randn(2, 8, 3, 3)

    for i in range(8):
        squares = maps[:, max(0, i - 2) : min(7, i + 2) + 1].square().sum(1)
        torch.testing.assert_close(layer(maps)[:, i], maps[:, i] / (2 + 1e-4 * squares) ** 0.75)


def test_the_weights_begin_as_in_the_paper() -> None:
    torch.manual_seed(0)
    model = AlexNet(**TINY)
    weighted = [*layers(model, nn.Conv2d), *layers(model, nn.Linear)]

    for layer in weighted:
        assert float(layer.weight.detach().std()) == pytest.approx(0.01, rel=0.1)
        assert abs(float(layer.weight.detach().mean())) < 0.001
    biases = [layer.bias.unique().tolist() for layer in weighted]
    assert biases == [[0], [1], [0], [1], [1], [1], [1], [0]]


def test_other_beginnings_can_be_had() -> None:
    plain = AlexNet(**TINY, unit_biases=False, init="xavier", batch_norm=True)

    assert not any(layer.bias.any() for layer in layers(plain, nn.Linear))
    assert not any(layer.bias is not None for layer in layers(plain, nn.Conv2d))
    assert len(layers(plain, nn.BatchNorm2d)) == 5


def reference_logits(weights: list[Tensor], images: Tensor) -> Tensor:
    """The network of 2012, written from the paper's sections with nothing of ours."""
    maps = images
    for number in range(1, 6):
        weight, bias = weights[2 * number - 2], weights[2 * number - 1]
        stride, padding = (4, 2) if number == 1 else (1, weight.shape[-1] // 2)
        if number in (2, 4, 5):
            halves = zip(maps.chunk(2, 1), weight.chunk(2), bias.chunk(2), strict=True)
            maps = torch.cat([functional.conv2d(*h, stride, padding) for h in halves], 1)
        else:
            maps = functional.conv2d(maps, weight, bias, stride, padding)
        maps = maps.clamp(min=0)
        if number in (1, 2):
            near = functional.pad(maps.square(), (0, 0, 0, 0, 2, 2)).unfold(1, 5, 1).sum(-1)
            maps = maps * (2 + 1e-4 * near).pow(-0.75)
        if number in (1, 2, 5):
            maps = maps.unfold(2, 3, 2).unfold(3, 3, 2).amax((-2, -1))
    units = maps.flatten(1)
    for dense in range(5, 8):
        units = units @ weights[2 * dense].T + weights[2 * dense + 1]
        units = units.clamp(min=0) if dense < 7 else units
    return units


def test_one_step_of_the_network_of_2012_is_that_of_float64() -> None:
    torch.manual_seed(0)
    model = AlexNet((3, 95, 95), 100, dense=[512, 512], dropout=0.0)
    images, targets = torch.randn(4, 3, 95, 95), torch.randint(0, 100, (4,))
    begun = [p.detach().double().requires_grad_() for p in model.parameters()]
    # Gradients begin small; at the paper's rate of 0.01 the step would drown in the rounding of
    # the weights it is added to.
    rate, decay = 100.0, 5e-4

    task = Classification(model, classes([str(i) for i in range(100)], *images.shape[1:]))
    groups = task.parameter_groups()
    sgd = torch.optim.SGD(groups["model"], lr=rate, momentum=0.9, weight_decay=decay)
    loss = task.train_step(
        {"input": images, "target": targets}, Optimize({"model": sgd}, groups_of(task), {}, "cpu")
    )["loss"]

    exact = functional.cross_entropy(reference_logits(begun, images.double()), targets)
    exact.backward()
    assert loss.item() == pytest.approx(exact.item(), rel=1e-5)
    for own, before in zip(model.parameters(), begun, strict=True):
        assert before.grad is not None
        step = rate * (before.grad + decay * before.detach())
        moved = before.detach() - own.detach().double()
        assert float(step.norm()) > 0
        assert float((moved - step).norm() / step.norm()) < 1e-4


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 62, 62), (3, 224, 40), (1, 8, 8), (1, 2, 2)])
def test_images_of_which_nothing_would_be_left_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="needs 63 pixels a side") as raised:
        AlexNet(shape, 10)
    assert "x".join(map(str, shape)) in str(raised.value)
    side = min(shape[1:])
    fitting = "alexnet_small" if side >= 15 else "cnn" if side >= 4 else "lenet5"
    assert f"model={fitting} reads them" in str(raised.value)


def test_what_is_advised_for_small_images_reads_them_and_is_another(compose: Compose) -> None:
    for name, side in SMALLEST.items():
        settings = dict(compose(f"model={name}")["model"])
        network = get_class(settings.pop("_target_"))
        with torch.device("meta"):
            network((1, side, side), 2, **settings)
        if side > 1:
            with pytest.raises(ValueError, match=f"needs {side} pixels a side") as raised:
                network((1, side - 1, 64), 2, **settings)
            assert f"model={name} " not in str(raised.value)
    with pytest.raises(ValueError, match="model=cnn reads them"):
        AlexNet((3, 16, 16), 10, kernels=[3] * 5)  # of the small form, but for its stride
    with pytest.raises(ValueError, match=r"needs 9 .*model=cnn reads them, and so do fewer"):
        Airbench((3, 8, 8), 10)
    with pytest.raises(ValueError, match=r"needs 16 .*model=lenet5 reads them, and so do fewer"):
        CNN((3, 14, 14), 10, channels=[8] * 4)


@pytest.mark.parametrize(
    "settings",
    [
        {"channels": [8] * 4},
        {"kernels": [3] * 6},
        {"dense": [64]},
        {"stride": 0},
        {"padding": -1},
        {"groups": 7},
        {"dropout": 2.0},
        {"input_shape": (784,)},
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"five|at least|divisible|fraction|images"):
        AlexNet(**{**TINY, **settings})


def test_it_takes_its_sizes_from_the_image() -> None:
    torch.manual_seed(0)
    model = AlexNet(**{**TINY, "input_shape": (1, 70, 90)}).eval()

    logits = model(torch.randn(3, 1, 70, 90))

    assert logits.shape == (3, 10)
    assert len(logits.unique(dim=0)) == 3
