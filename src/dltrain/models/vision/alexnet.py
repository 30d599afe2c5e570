"""AlexNet (Krizhevsky, Sutskever and Hinton 2012; Krizhevsky 2014), and its shape made small."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from dltrain.contracts.paths import InitialWeights
from dltrain.errors import require_fraction
from dltrain.models.layers.init import Init, initialize
from dltrain.models.layers.shapes import image_shape, refuse_small, swept
from dltrain.models.vision.transfer import Freezable, fill, read_torchvision

# Which of the five convolutions, counted from 1 (sections 3.2, 3.3 and 3.5 of the paper).
GROUPED = {2, 4, 5}
NORMALIZED = {1, 2}
POOLED = {1, 2, 5}
UNIT_BIASES = {2, 4, 5}

SMALL_FROM = 11
"""A first kernel of fewer pixels is that of a network for small images already."""


class AlexNet(Freezable):
    """Five convolutions, three dense layers: (batch, c, h, w) to logits (batch, outputs).

    As it stands it is the network of 2012: 60,965,224 parameters on 224x224x3 and 1000 classes.

    - ``channels`` and ``kernels`` are those of the five convolutions; ``stride`` and ``padding``
      act in the first, the others keep the image's size. The paper's 224 and its 55x55 maps do
      not agree without padding: (224 - 11)/4 + 1 is not whole. ``padding=2``, of which the far
      side's last pixel is never reached, makes of 224 the 227 that do: 55, pooled to 27, 13, 6.
    - ``groups=2`` splits convolutions 2, 4 and 5 as the paper's two GPUs did.
    - ``response_norm``: each value of the first two layers is divided by (2 + 1e-4 times the sum
      of squares at its place over five neighboring channels) to the power 0.75 (section 3.3).
      The sum runs over all channels, not only over those of the same GPU.
    - Max-pooling is over 3x3 in steps of 2, and so overlaps (section 3.4).
    - ``dense`` are the two hidden dense layers, each followed by ``dropout``.
    - ``init="normal"`` and ``unit_biases``: weights from N(0, 0.01), biases of one in
      convolutions 2, 4 and 5 and in the hidden dense layers, else of zero (section 5).
    - ``batch_norm`` after each convolution takes the place of its bias.
    - ``pretrained`` weights of torchvision's AlexNet, true or a file of them, fit the one-column
      form (Krizhevsky 2014); with other than 1000 classes the last layer begins anew.
    - ``freeze`` names parts that are kept as they are: ``features``, ``classifier.1``.

    Raises ValueError for what is no image or too small a one, for other than five and two
    layers, and for weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        channels: Sequence[int] = (96, 256, 384, 384, 256),
        kernels: Sequence[int] = (11, 5, 3, 3, 3),
        stride: int = 4,
        padding: int = 2,
        groups: int = 2,
        dense: Sequence[int] = (4096, 4096),
        response_norm: bool = True,
        batch_norm: bool = False,
        dropout: float = 0.5,
        init: Init = "normal",
        unit_biases: bool = True,
        pretrained: bool | InitialWeights | None = None,
        freeze: Sequence[str] = (),
    ) -> None:
        super().__init__()
        require_fraction(dropout=dropout)
        if (len(channels), len(kernels), len(dense)) != (5, 5, 2):
            raise ValueError("AlexNet has five channels, five kernels and two dense hidden layers")
        if min(*channels, *kernels, *dense, stride, groups) < 1 or padding < 0:
            raise ValueError("sizes, stride and groups are at least 1, padding is not negative")
        planes, sides = image_shape("AlexNet", input_shape)
        own = ("alexnet_small",) if kernels[0] < SMALL_FROM else ()
        refuse_small(input_shape, lambda side: _left(side, kernels, stride, padding) > 0, own=own)
        blocks: list[nn.Module] = []
        convolutions = enumerate(zip(pairwise([planes, *channels]), kernels, strict=True), 1)
        for number, ((before, after), kernel) in convolutions:
            step, border = (stride, padding) if number == 1 else (1, kernel // 2)
            blocks.append(
                nn.Conv2d(
                    before,
                    after,
                    kernel,
                    step,
                    border,
                    groups=groups if number in GROUPED else 1,
                    bias=not batch_norm,
                )
            )
            sides = swept(sides, kernel, step, border)
            if batch_norm:
                blocks.append(nn.BatchNorm2d(after))
            blocks += _rest_of_block(response_norm and number in NORMALIZED, number in POOLED)
            if number in POOLED:
                sides = swept(sides, 3, stride=2)
        self.features = nn.Sequential(*blocks)

        widths = [channels[-1] * math.prod(sides), *dense]
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.classifier = nn.Sequential(*layers, nn.Linear(dense[-1], outputs))

        initialize(self, init)
        if unit_biases:
            self._set_unit_biases()
        if pretrained:
            hint = "They fit model=alexnet_one_column on images of 224x224."
            fill(self, read_torchvision("alexnet", pretrained), hint)
        self.freeze(freeze)

    def _set_unit_biases(self) -> None:
        """Give rectifiers positive inputs at first, which speeds up the start (section 5)."""
        convolutions = [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
        hidden = [layer for layer in self.classifier if isinstance(layer, nn.Linear)][:-1]
        chosen: list[nn.Conv2d | nn.Linear] = [
            *(layer for number, layer in enumerate(convolutions, 1) if number in UNIT_BIASES),
            *hidden,
        ]
        for layer in chosen:
            if layer.bias is not None:
                nn.init.ones_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Find features, and classify them."""
        return self.classifier(self.features(images))


def _left(side: int, kernels: Sequence[int], stride: int, padding: int) -> int:
    """Pixels a side that are left of ``side``; 0 or less: none."""
    for number, kernel in enumerate(kernels, 1):
        step, border = (stride, padding) if number == 1 else (1, kernel // 2)
        (side,) = swept([side], kernel, step, border)
        if number in POOLED:
            (side,) = swept([side], 3, stride=2)
        if side < 1:
            return 0
    return side


def _rest_of_block(normalize: bool, pool: bool) -> list[nn.Module]:
    """What follows a convolution."""
    pooling = [nn.MaxPool2d(3, stride=2)] if pool else []
    if normalize:
        # The paper's alpha multiplies a sum over the five channels, torch's their mean.
        return [nn.ReLU(), nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0), *pooling]
    # Of a maximum it is all the same whether it is rectified before or after; after is cheaper.
    return [*pooling, nn.ReLU()]
