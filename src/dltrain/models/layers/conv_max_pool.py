"""A first convolution of few channels and its 2x2 max-pooling as one, for training on a CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

VECTOR = 16
"""Float32 numbers of the widest vector register: with fewer channels, pooling pixel by pixel is
not vectorized by torch."""


class ConvMaxPoolFirst(nn.Sequential):
    """Layers of which the first two are a convolution and the 2x2 max-pooling of its output.

    While they train on a CPU, the two are computed by :func:`conv_max_pool`, if the convolution has
    fewer channels than a vector register has numbers, and nothing asks for what lies between: no
    hook on either layer, and no gradient of the images. Otherwise each layer is called in turn.
    Both ways have the same weights and, but for rounding, the same outputs and gradients.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, c, h, w) through all layers."""
        convolution, pooling, *rest = self
        if not isinstance(convolution, nn.Conv2d) or not (
            self.training and _as_one(convolution, pooling, images)
        ):
            return super().forward(images)
        maps = conv_max_pool(images, convolution.weight, convolution.bias)
        for layer in rest:
            maps = layer(maps)
        return maps


def conv_max_pool(images: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``max_pool2d(conv2d(images, weight, bias), 2)``, faster on a CPU where channels are few.

    The four values that a square of the pooling compares are four channels of one convolution of
    stride 2, whose kernels are those of ``weight`` (outputs, c, k, k) at the four places of a
    square of side k + 1. So there are four times as many channels, which fill vector registers, at
    a quarter of the places, and the maximum is taken between whole planes. The bias is added to
    the maximum, a quarter of the values.

    The weights' gradient can be taken once; the images' is as for any convolution.
    """
    kernels = torch.stack(
        [
            functional.pad(weight, (right, 1 - right, down, 1 - down))
            for down in (0, 1)
            for right in (0, 1)
        ]
    )
    maps = functional.conv2d(images.contiguous(), kernels.flatten(0, 1), stride=2)
    largest: Tensor = _LargestOfFour.apply(maps.unflatten(1, (4, len(weight))))
    return largest if bias is None else largest + bias[:, None, None]


class _LargestOfFour(torch.autograd.Function):
    """The maximum over the second dimension, of four; of equals the first has the gradient."""

    @staticmethod
    def forward(ctx: Any, squares: Tensor) -> Tensor:
        first, second, third, fourth = squares.unbind(1)
        upper, lower = torch.maximum(first, second), torch.maximum(third, fourth)
        # As floats: a product with them is several times as fast as with booleans.
        ctx.save_for_backward(
            torch.ge(first, second, out=torch.empty_like(upper)),
            torch.ge(third, fourth, out=torch.empty_like(upper)),
            torch.ge(upper, lower, out=torch.empty_like(upper)),
        )
        return torch.maximum(upper, lower)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        left_of_upper, left_of_lower, is_upper = ctx.saved_tensors
        batch, *shape = gradient.shape
        squares = gradient.new_empty((batch, 4, *shape))
        first, second, third, fourth = squares.unbind(1)
        upper = gradient * is_upper
        torch.mul(upper, left_of_upper, out=first)
        torch.sub(upper, first, out=second)
        lower = gradient - upper
        torch.mul(lower, left_of_lower, out=third)
        torch.sub(lower, third, out=fourth)
        return squares


def _as_one(convolution: nn.Module, pooling: nn.Module, images: Tensor) -> bool:
    """Whether :func:`conv_max_pool` does what the two layers do, and is faster."""
    return (
        type(convolution) is nn.Conv2d
        and type(pooling) is nn.MaxPool2d
        and convolution.out_channels < VECTOR
        and (convolution.padding, convolution.stride) == ((0, 0), (1, 1))
        and (convolution.dilation, convolution.groups) == ((1, 1), 1)
        and (pooling.kernel_size, pooling.stride, pooling.padding) == (2, 2, 0)
        and (pooling.dilation, pooling.ceil_mode, pooling.return_indices) == (1, False, False)
        and images.device.type == "cpu"
        and images.dtype == convolution.weight.dtype == torch.float32
        and torch.is_grad_enabled()
        and not images.requires_grad
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not any(map(_is_watched, (convolution, pooling)))
    )


def _is_watched(layer: nn.Module) -> bool:
    """Whether something is to be told when the layer is called."""
    return bool(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
    )
