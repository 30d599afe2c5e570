"""Deep convolutional generative adversarial networks (Radford, Metz and Chintala 2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from dltrain.models.adversaries import (
    NARROW,
    SLOPE,
    Adversaries,
    Discriminator,
    Generator,
    norm_layer,
)
from dltrain.models.pictures import picture_shape

# A kernel that its stride divides overlaps itself evenly: no chessboard (Odena et al. 2016).
KERNEL, STRIDE, PADDING = 4, 2, 1
SMALLEST = 4
"""Side below which maps are not halved."""


class DCGAN(Adversaries):
    """Convolutions of stride 2 against transposed ones, in sizes that follow the picture's.

    The discriminator halves the picture as long as its sides are even and stay at least 4, with
    ``discriminator_width`` maps at first and twice as many each time (28x28: 14 and 7; 64x64: 32 to
    4). A layer is convolution, batch norm (not in the first; it goes by the statistics of the batch
    in eval mode too), leaky ReLU, ``dropout``. The generator begins with a dense layer and does the
    same in reverse, ``generator_width`` maps before the last layer: batch norm and ReLU, tanh in
    the end. Weights are drawn as in section 4 of the paper. On 64x64 in three colours, width 64,
    that is the usual pair of 3,576,704 and 2,765,568 parameters.

    Without ``batch_norm`` the discriminator has none, as a gradient penalty asks for; its layers
    then have biases, and torch's own initial weights. ``conditional`` and ``spectral_norm`` are as
    in :mod:`~dltrain.models.adversaries`.

    Raises ValueError for what is no picture, cannot be halved, or leaves a layer without maps.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        class_names: Sequence[str] | None = None,
        noise_size: int = 100,
        generator_width: int = 64,
        discriminator_width: int = 64,
        conditional: bool = False,
        batch_norm: bool = True,
        dropout: float = 0.0,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__(noise_size, conditional, class_names)
        if min(generator_width, discriminator_width) < 1:
            raise ValueError(
                "generator_width and discriminator_width are at least 1, got "
                f"{generator_width} and {discriminator_width}"
            )
        planes, sides = picture_shape("a DCGAN", input_shape)
        halvings, smallest = _halved(sides)
        maps = [generator_width * 2**power for power in range(halvings)]
        self.generator = Generator(
            _growing(noise_size, smallest, [*reversed(maps), planes], self.classes)
        )
        _draw(self.generator.layers)
        maps = [discriminator_width * 2**power for power in range(halvings)]
        features = _shrinking([planes, *maps], batch_norm, dropout)
        score = nn.Linear(maps[-1] * math.prod(smallest), 1, bias=not batch_norm)
        if batch_norm:
            _draw(features)
            _draw(score)
        self.discriminator = Discriminator(features, score, self.classes, spectral_norm)


def _halved(sides: Sequence[int]) -> tuple[int, list[int]]:
    """How often a picture is halved, and what that leaves of its sides."""
    halvings, left = 0, list(sides)
    while all(side % 2 == 0 and side >= 2 * SMALLEST for side in left):
        halvings, left = halvings + 1, [side // 2 for side in left]
    if not halvings:
        raise ValueError(
            f"a DCGAN halves pictures again and again, which {'x'.join(map(str, sides))} does not "
            f"allow: sides are even, and at least {2 * SMALLEST}"
        )
    return halvings, left


def _growing(
    noise_size: int, smallest: Sequence[int], maps: Sequence[int], classes: int
) -> nn.Sequential:
    """From noise to maps of the ``smallest`` sides, and by doubling to the picture."""
    first = maps[0]
    # To the first norm a class may tell what belongs where; after that only whole maps.
    shapes = [(first, *smallest), *((after, 1, 1) for after in maps[1:-1])]
    layers: list[nn.Module] = [
        # Batch norm has a shift of its own, so a bias before it would do nothing.
        nn.Linear(noise_size, first * math.prod(smallest), bias=False),
        nn.Unflatten(1, (first, *smallest)),
    ]
    for (before, after), shape in zip(pairwise(maps), shapes, strict=True):
        layers += [
            norm_layer(shape, classes),
            nn.ReLU(),
            nn.ConvTranspose2d(before, after, KERNEL, STRIDE, PADDING, bias=False),
        ]
    return nn.Sequential(*layers)


def _shrinking(maps: Sequence[int], batch_norm: bool, dropout: float) -> nn.Sequential:
    """From the picture to the last maps, flat."""
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairwise(maps)):
        layers.append(nn.Conv2d(before, after, KERNEL, STRIDE, PADDING, bias=not batch_norm))
        if batch_norm and number:
            # Real and made pictures have statistics of their own: an average would fit neither.
            layers.append(nn.BatchNorm2d(after, track_running_stats=False))
        layers.append(nn.LeakyReLU(SLOPE))
        if dropout:
            layers.append(nn.Dropout(dropout))
    return nn.Sequential(*layers, nn.Flatten())


def _draw(layers: nn.Module) -> None:
    """Initial weights of section 4; scales of norms around 1, as in the authors' code."""
    for layer in layers.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, std=NARROW)
        elif isinstance(layer, nn.BatchNorm2d) and layer.affine:
            nn.init.normal_(layer.weight, mean=1.0, std=NARROW)
