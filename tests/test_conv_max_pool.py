"""A first convolution and its pooling as one: the same numbers, unless something looks between."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d

from dltrain.models.layers.conv_max_pool import ConvMaxPoolFirst, conv_max_pool
from dltrain.models.vision.lenet import LeNet5

GRADIENT = "_LargestOfFour"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("channels", "kernel", "size"), [(1, 5, (32, 32)), (3, 3, (13, 12)), (2, 4, (9, 14))]
)
def test_outputs_and_gradients_are_those_of_two_layers(
    channels: int, kernel: int, size: tuple[int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    images = torch.randn(5, channels, *size, requires_grad=True)
    weight = torch.randn(6, channels, kernel, kernel, requires_grad=True)
    trained = [images, weight, *([torch.randn(6, requires_grad=True)] if bias else [])]
    found = conv_max_pool(*trained)
    expected = max_pool2d(conv2d(*trained), 2)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(expected)
    torch.testing.assert_close(
        torch.autograd.grad(found, trained, weights),
        torch.autograd.grad(expected, trained, weights),
        rtol=1e-4,
        atol=1e-4,
    )


def test_of_equal_values_the_first_has_the_gradient_as_in_torch() -> None:
    images = torch.ones(1, 1, 4, 4, requires_grad=True)
    weight = torch.ones(1, 1, 1, 1)
    (found,) = torch.autograd.grad(conv_max_pool(images, weight).sum(), images)
    (expected,) = torch.autograd.grad(max_pool2d(conv2d(images, weight), 2).sum(), images)
    assert torch.equal(found, expected)


def lenet() -> tuple[LeNet5, Tensor]:
    torch.manual_seed(0)
    return LeNet5((1, 28, 28), 10), torch.randn(4, 1, 28, 28)


def as_one(model: LeNet5, images: Tensor) -> bool:
    """Whether the maximum of four is in the graph."""
    nodes, seen = [model(images).grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if GRADIENT in node.name():
            return True
        nodes += [before for before, _ in node.next_functions]
    return False


def test_lenet5_trains_with_both_as_one_and_is_evaluated_layer_by_layer() -> None:
    model, images = lenet()
    assert as_one(model, images)
    trained = model(images)
    assert not as_one(model.eval(), images)
    torch.testing.assert_close(trained, model(images), rtol=1e-4, atol=1e-5)


def test_who_looks_at_a_layer_sees_it_called() -> None:
    model, images = lenet()
    shapes: list[torch.Size] = []
    handle = model.features[0].register_forward_hook(lambda _, __, maps: shapes.append(maps.shape))
    assert not as_one(model, images)
    assert shapes == [(4, 6, 28, 28)]
    handle.remove()
    assert as_one(model, images)


def test_gradients_of_images_and_other_types_of_numbers_take_both_layers() -> None:
    model, images = lenet()
    assert not as_one(model, images.clone().requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        assert not as_one(model, images)
    assert not as_one(model.double(), images.double())


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 16, 5), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5, padding=2), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5, stride=2), nn.MaxPool2d(2)],
        [nn.Conv2d(1, 6, 5), nn.MaxPool2d(3)],
        [nn.Conv2d(1, 6, 5), nn.MaxPool2d(2, ceil_mode=True)],
        [nn.Conv2d(1, 6, 5), nn.AvgPool2d(2)],
    ],
)
def test_other_layers_are_called_in_turn(layers: list[nn.Module]) -> None:
    images = torch.randn(2, 1, 15, 15)
    found = ConvMaxPoolFirst(*layers, nn.ReLU())(images)
    assert torch.equal(found, nn.Sequential(*layers, nn.ReLU())(images))
    assert GRADIENT not in found.grad_fn.next_functions[0][0].name()
