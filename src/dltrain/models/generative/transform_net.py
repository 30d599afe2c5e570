"""A network from an image to an image of the same size."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from dltrain.errors import require_at_least

SMALLEST = 16
"""Pixels of a side, below which reflection has nothing to reflect."""
STRIDE = 4
"""By which the residual blocks see the image smaller."""


class TransformNet(nn.Module):
    """Images (n, 3, h, w) to images of 0..1, of any size (Johnson et al. 2016).

    A convolution of 9x9, two that halve the image, ``blocks`` residual blocks and the way back,
    of ``width``, twice and four times as many channels. Norms are of each image by itself (Ulyanov
    et al. 2016). The way back repeats pixels before it convolves, for transposed convolutions
    leave a checkerboard (Odena et al. 2016); borders are reflected.

    Raises ValueError for other images than of three channels, and for smaller ones than 16 pixels.
    """

    def __init__(self, input_shape: Sequence[int], width: int = 32, blocks: int = 5) -> None:
        super().__init__()
        require_at_least(1, width=width)
        require_at_least(0, blocks=blocks)
        require_colors(input_shape)
        self.down = nn.Sequential(
            *_layer(3, width, 9),
            *_layer(width, 2 * width, 3, stride=2),
            *_layer(2 * width, 4 * width, 3, stride=2),
        )
        self.blocks = nn.Sequential(*(Residual(4 * width) for _ in range(blocks)))
        self.up = nn.Sequential(
            nn.Upsample(scale_factor=2),
            *_layer(4 * width, 2 * width, 3),
            nn.Upsample(scale_factor=2),
            *_layer(2 * width, width, 3),
            nn.ReflectionPad2d(4),
            nn.Conv2d(width, 3, 9),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Images of the same size."""
        height, width = images.shape[2:]
        require_size((height, width))
        # To whole strides, and back: no row at the right or below is lost.
        padded = functional.pad(images, (0, -width % STRIDE, 0, -height % STRIDE), mode="reflect")
        return self.up(self.blocks(self.down(padded))).sigmoid()[..., :height, :width]


def require_colors(shape: Sequence[int]) -> None:
    """Raise ValueError where a shape is not of images of three channels, large enough."""
    if len(shape) != 3 or shape[0] != 3:
        raise ValueError(
            f"this network paints images of 3 channels, and these are of shape {tuple(shape)}: "
            "data.channels=3 makes gray ones such"
        )
    require_size(shape[1:])


class Residual(nn.Module):
    """Two convolutions of 3x3, added to what they read."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        *first, norm, activation = _layer(channels, channels, 3)
        *second, last, _ = _layer(channels, channels, 3)
        self.layers = nn.Sequential(*first, norm, activation, *second, last)

    def forward(self, values: Tensor) -> Tensor:
        """Values of the same shape (n, channels, h, w)."""
        return values + self.layers(values)


def _layer(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.ReflectionPad2d(kernel // 2),
        nn.Conv2d(inputs, outputs, kernel, stride),
        nn.InstanceNorm2d(outputs, affine=True),
        nn.ReLU(),
    ]


def require_size(sides: Sequence[int]) -> None:
    """Raise ValueError for an image (height, width) too small to be painted."""
    if min(sides) < SMALLEST:
        height, width = sides
        raise ValueError(
            f"an image is of {width}x{height} pixels: a side needs {SMALLEST} at least"
        )
