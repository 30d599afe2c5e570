"""The tutorials' dense generative adversarial networks (Goodfellow et al. 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_fraction, require_units
from dltrain.models.generative.base_gan import (
    SLOPE,
    Adversaries,
    Discriminator,
    Generator,
    norm_layer,
)


class GAN(Adversaries):
    """Dense layers against dense layers: on 28x28, 100-256-512-784 and 784-512-256-1.

    A hidden layer of the generator is dense, batch norm, ReLU; one of the discriminator is dense,
    leaky ReLU, ``dropout``. ``conditional``, ``clusters`` and ``spectral_norm`` are as in
    :mod:`~dltrain.models.generative.base_gan`.

    Raises ValueError for what is no image, and for layers without units.
    """

    def __init__(
        self,
        spec: DataSpec,
        noise_size: int = 100,
        generator_hidden: Sequence[int] = (256, 512),
        discriminator_hidden: Sequence[int] = (512, 256),
        conditional: bool = False,
        clusters: int = 0,
        dropout: float = 0.0,
        spectral_norm: bool = False,
    ) -> None:
        super().__init__("a GAN", spec, noise_size, conditional, clusters)
        require_units(generator_hidden=generator_hidden, discriminator_hidden=discriminator_hidden)
        require_fraction(dropout=dropout)
        pixels = math.prod(self.shape)
        layers: list[nn.Module] = []
        widths = [noise_size, *generator_hidden]
        for before, after in pairwise(widths):
            norm = norm_layer([after], self.classes)
            # Batch norm has a shift of its own, so a bias before it would do nothing.
            layers += [nn.Linear(before, after, bias=False), norm, nn.ReLU()]
        layers += [nn.Linear(widths[-1], pixels), nn.Unflatten(1, self.shape)]
        self.generator = Generator(nn.Sequential(*layers))

        layers = [nn.Flatten()]
        widths = [pixels, *discriminator_hidden]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.LeakyReLU(SLOPE)]
            if dropout:
                layers.append(nn.Dropout(dropout))
        self.discriminator = Discriminator(
            nn.Sequential(*layers), nn.Linear(widths[-1], 1), self.classes, spectral_norm
        )
