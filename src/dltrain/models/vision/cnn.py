"""The tutorials' convolutional networks, by arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from dltrain.errors import require_at_least, require_fraction, require_units
from dltrain.models.layers.activations import ACTIVATIONS, Activation, pooled
from dltrain.models.layers.init import Init, initialize
from dltrain.models.layers.shapes import image_shape, refuse_small, swept


class CNN(nn.Module):
    """Convolutions, then dense layers: (batch, c, h, w) to logits (batch, outputs).

    Each entry of ``channels`` is a block: convolution with square kernels, batch norm (if asked),
    activation, max-pooling by ``pooling`` (1: none), dropout of single values at the rate
    ``conv_dropout``. Each entry of ``dense`` is a hidden layer: dense, activation, ``dropout``.
    With ``padding="same"`` a convolution keeps the image's size, with ``"valid"`` it only looks
    inside and loses a border.

    Raises ValueError for what is no image, for layers without units, and where the blocks
    leave nothing of the image.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        channels: Sequence[int] = (32, 64),
        dense: Sequence[int] = (128,),
        kernel: int = 3,
        padding: Literal["same", "valid"] = "same",
        pooling: int = 2,
        activation: Activation = "relu",
        init: Init = "default",
        batch_norm: bool = False,
        dropout: float = 0.0,
        conv_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        require_units(channels=channels, dense=dense)
        require_at_least(1, kernel=kernel, pooling=pooling)
        require_fraction(dropout=dropout, conv_dropout=conv_dropout)
        planes, sides = image_shape("a cnn", input_shape)
        border = kernel - 1 if padding == "valid" else 0

        def reads(side: int) -> bool:
            for _ in channels:
                side = (side - border) // pooling
            return side > 0

        hint = ", and so do fewer channels, a smaller kernel or pooling"
        refuse_small(input_shape, reads, hint, own=("cnn",))
        blocks: list[nn.Module] = []
        for before, after in pairwise([planes, *channels]):
            # Batch norm has a shift of its own, so a bias before it would do nothing.
            blocks.append(nn.Conv2d(before, after, kernel, padding=padding, bias=not batch_norm))
            if batch_norm:
                blocks.append(nn.BatchNorm2d(after))
            if padding == "valid":
                sides = swept(sides, kernel)
            if pooling > 1:
                blocks += pooled(activation, nn.MaxPool2d(pooling))
                sides = swept(sides, pooling, stride=pooling)
            else:
                blocks.append(ACTIVATIONS[activation]())
            if conv_dropout:
                blocks.append(nn.Dropout(conv_dropout))
        self.features = nn.Sequential(*blocks)

        widths = [[planes, *channels][-1] * math.prod(sides), *dense]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), ACTIVATIONS[activation]()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.classifier = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
        initialize(self, init)

    def forward(self, images: Tensor) -> Tensor:
        """Find features, and classify them."""
        return self.classifier(self.features(images))
