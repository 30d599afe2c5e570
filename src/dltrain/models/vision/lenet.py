"""LeNet-5 (LeCun, Bottou, Bengio and Haffner 1998, section II.B)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.errors import require_fraction
from dltrain.models.layers.conv_max_pool import ConvMaxPoolFirst
from dltrain.models.layers.init import Init, initialize
from dltrain.models.layers.shapes import image_shape

PLANE = 32


class LeNet5(nn.Module):
    """Two convolutions with subsampling, three dense layers: (batch, c, h, w) to (batch, outputs).

    The paper's input plane is 32x32. Smaller images are enlarged by the greatest whole factor
    that fits (8x8 digits by 4) and padded with zeros to it (28x28 by 2 on each side); larger ones
    are taken as they are, and the first dense layer grows. On one channel and ten classes it has
    61,706 parameters.

    ``variant="modern"`` has ReLU and max-pooling. ``variant=1998`` has the paper's scaled tanh
    and trainable subsampling; of the paper's it lacks the sparse table between S2 and C3 and the
    RBF output, for which, as is usual today, stand full connection and logits.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        variant: Literal["modern", 1998] = "modern",
        dropout: float = 0.0,
        init: Init = "default",
    ) -> None:
        super().__init__()
        require_fraction(dropout=dropout)
        channels, size = image_shape("LeNet-5", input_shape)
        self.enlarge = max(1, PLANE // max(size))
        self.padding = [max(0, PLANE - side * self.enlarge) for side in size]
        sides = [(max(PLANE, side * self.enlarge) - 4) // 2 for side in size]
        sides = [(side - 4) // 2 for side in sides]

        modern = variant == "modern"
        activation: type[nn.Module] = nn.ReLU if modern else ScaledTanh
        self.features = ConvMaxPoolFirst(
            nn.Conv2d(channels, 6, 5),
            *_subsample(6, modern, activation),
            nn.Conv2d(6, 16, 5),
            *_subsample(16, modern, activation),
        )
        hidden = [nn.Linear(16 * math.prod(sides), 120), nn.Linear(120, 84)]
        layers: list[nn.Module] = [nn.Flatten()]
        for dense in hidden:
            layers += [dense, activation(), *([nn.Dropout(dropout)] if dropout else [])]
        self.classifier = nn.Sequential(*layers, nn.Linear(84, outputs))
        initialize(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Bring the images to the input plane, and classify them."""
        if self.enlarge > 1:
            images = functional.interpolate(
                images, scale_factor=self.enlarge, mode="bilinear", align_corners=False
            )
        down, right = self.padding
        if down or right:
            top, left = down // 2, right // 2
            images = functional.pad(images, (left, right - left, top, down - top))
        return self.classifier(self.features(images))


def _subsample(channels: int, modern: bool, activation: type[nn.Module]) -> list[nn.Module]:
    if modern:
        # ReLU is monotonic, so it commutes with the maximum; after pooling it has a quarter to do.
        return [nn.MaxPool2d(2), activation()]
    return [activation(), TrainableSubsampling(channels), activation()]


class ScaledTanh(nn.Module):
    """``1.7159 tanh(2x/3)`` (LeCun et al. 1998, appendix A)."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Squash element by element."""
        return 1.7159 * torch.tanh(inputs * (2 / 3))


class TrainableSubsampling(nn.Module):
    """The sum of each 2x2 square times a trained coefficient plus a trained bias, per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.coefficient = nn.Parameter(torch.full((channels,), 0.25))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Halve height and width: (batch, c, h, w) to (batch, c, h/2, w/2)."""
        sums = 4 * functional.avg_pool2d(maps, 2)
        return sums * self.coefficient[:, None, None] + self.bias[:, None, None]
