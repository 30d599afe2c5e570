"""Deep convolutional generative adversarial networks (Radford, Metz and Chintala 2016)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_fraction
from dltrain.models.generative.base_gan import (
    NARROW,
    SLOPE,
    Adversaries,
    Discriminator,
    Generator,
    norm_layer,
)

STRIDE, PADDING = 2, 1
SMALLEST = 4
"""Side below which maps are not halved."""


class DCGAN(Adversaries):
    """Convolutions of stride 2 against transposed ones, in sizes that follow the image's.

    The discriminator halves the image, rounding up, as long as its sides stay at least 4, with
    ``discriminator_width`` maps at first and twice as many each time (28x28: 14, 7, 4; 64x64: 32,
    16, 8, 4). A layer is convolution, batch norm (not in the first; it goes by the statistics of
    the batch in eval mode too), leaky ReLU, ``dropout``. The generator begins with a dense layer
    and does the same in reverse, ``generator_width`` maps before the last layer: batch norm and
    ReLU, tanh in the end. Weights are drawn as in section 4 of the paper. On 64x64 in three
    colors, width 64, that is the usual pair of 3,576,704 and 2,765,568 parameters.

    Without ``batch_norm`` the discriminator has none, as a gradient penalty asks for; its layers
    then have biases, and torch's own initial weights. ``conditional``, ``clusters`` and
    ``spectral_norm`` are as in :mod:`~dltrain.models.generative.base_gan`.

    Raises ValueError for what is no image, cannot be halved, or leaves a layer without maps.
    """

    def __init__(
        self,
        spec: DataSpec,
        noise_size: int = 100,
        generator_width: int = 64,
        discriminator_width: int = 64,
        conditional: bool = False,
        clusters: int = 0,
        batch_norm: bool = True,
        dropout: float = 0.0,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__("a DCGAN", spec, noise_size, conditional, clusters)
        require_fraction(dropout=dropout)
        if min(generator_width, discriminator_width) < 1:
            raise ValueError(
                "generator_width and discriminator_width are at least 1, got "
                f"{generator_width} and {discriminator_width}"
            )
        _, height, width = self.shape
        sizes = _halved(height, width)
        shapes = [self.shape, *_widening(generator_width, sizes)]
        self.generator = Generator(_growing(noise_size, shapes[::-1], self.classes))
        _draw(self.generator.layers)
        shapes = [self.shape, *_widening(discriminator_width, sizes)]
        features = _shrinking(shapes, batch_norm, dropout)
        score = nn.Linear(math.prod(shapes[-1]), 1, bias=not batch_norm)
        if batch_norm:
            _draw(features)
            _draw(score)
        self.discriminator = Discriminator(features, score, self.classes, spectral_norm)


Shape = tuple[int, int, int]
"""Maps, height, width."""


def _halved(height: int, width: int) -> list[tuple[int, int]]:
    """The sides that an image has after each halving."""
    sizes = [(height, width)]
    while min(sizes[-1]) > 2 * (SMALLEST - 1):
        high, wide = sizes[-1]
        sizes.append(((high + 1) // 2, (wide + 1) // 2))
    if len(sizes) == 1:
        raise ValueError(
            f"a DCGAN halves images again and again, which {height}x{width} does not allow: "
            f"sides are at least {2 * SMALLEST - 1}"
        )
    return sizes[1:]


def _widening(width: int, sizes: Sequence[tuple[int, int]]) -> list[Shape]:
    return [(width * 2**number, *sides) for number, sides in enumerate(sizes)]


def _kernel(height: int, width: int) -> tuple[int, int]:
    """What halves these sides, rounding up, or makes them of their half.

    Where they are even, the stride divides it, so it overlaps itself evenly: no chessboard (Odena
    et al. 2016).
    """
    return 4 - height % 2, 4 - width % 2


def _growing(noise_size: int, shapes: Sequence[Shape], classes: int) -> nn.Sequential:
    """From noise to the first of ``shapes``, and by doubling to the last."""
    first = shapes[0]
    layers: list[nn.Module] = [
        # Batch norm has a shift of its own, so a bias before it would do nothing.
        nn.Linear(noise_size, math.prod(first), bias=False),
        nn.Unflatten(1, first),
        # A class may tell the first maps what belongs where, and later ones only how much.
        norm_layer(first, classes),
    ]
    for (before, *_), (after, *sides) in pairwise(shapes):
        kernel = _kernel(*sides)
        layers += [
            nn.ReLU(),
            nn.ConvTranspose2d(before, after, kernel, STRIDE, PADDING, bias=False),
            norm_layer((after, 1, 1), classes),
        ]
    return nn.Sequential(*layers[:-1])


def _shrinking(shapes: Sequence[Shape], batch_norm: bool, dropout: float) -> nn.Sequential:
    """From the first of ``shapes``, an image's, to the last, flat."""
    layers: list[nn.Module] = []
    for number, ((before, *sides), (after, *_)) in enumerate(pairwise(shapes)):
        kernel = _kernel(*sides)
        layers.append(nn.Conv2d(before, after, kernel, STRIDE, PADDING, bias=not batch_norm))
        if batch_norm and number:
            # Real and generated images have statistics of their own: an average would fit neither.
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
