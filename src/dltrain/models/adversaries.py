"""What every pair of adversaries has: noise becomes pictures, pictures get a score."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

SLOPE = 0.2
"""Of the discriminators' leaky ReLU below 0 (Radford et al. 2016, section 3)."""
NARROW = 0.02
"""Standard deviation of DCGAN's initial weights (there, section 4)."""


class ModulatedBatchNorm(nn.Module, ABC):
    """Batch norm of values (batch, channels, ...) whose scale and shift are each picture's own.

    Those have the ``shape`` (channels, ...): with sides of 1 for whole maps, as is usual, else for
    every place of its own.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.norm = _norm(shape, affine=False)
        self.shape = tuple(shape)

    @abstractmethod
    def scales_and_shifts(self, noise: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """Each (batch, numbers in the shape), for pictures made of ``noise``."""

    def forward(self, values: Tensor, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Normalise ``values``."""
        scales, shifts = self.scales_and_shifts(noise, labels)
        shape = (-1, *self.shape)
        return torch.addcmul(shifts.view(shape), self.norm(values), scales.view(shape))


class ConditionalBatchNorm(ModulatedBatchNorm):
    """By the picture's class, one of ``classes`` (de Vries et al. 2017)."""

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__(shape)
        self.scale = nn.Embedding(classes, math.prod(shape))
        self.shift = nn.Embedding(classes, math.prod(shape))
        nn.init.normal_(self.scale.weight, mean=1.0, std=NARROW)
        nn.init.zeros_(self.shift.weight)

    def scales_and_shifts(self, noise: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """As :class:`ModulatedBatchNorm` has it; there are labels."""
        assert labels is not None
        return self.scale(labels), self.shift(labels)


class SelfModulatedBatchNorm(ModulatedBatchNorm):
    """By the noise itself, through a layer of ``units`` (Chen et al. 2019, equation 3).

    Networks that learn of no class can draw one so: layers that multiply what they are given can
    tell it from its neighbours more sharply than layers that add.
    """

    def __init__(self, shape: Sequence[int], noise_size: int, units: int) -> None:
        super().__init__(shape)
        self.hidden = nn.Linear(noise_size, units)
        self.scale = nn.Linear(units, math.prod(shape))
        self.shift = nn.Linear(units, math.prod(shape))
        for layer, start in ((self.scale, 1.0), (self.shift, 0.0)):
            nn.init.normal_(layer.weight, std=NARROW)
            nn.init.constant_(layer.bias, start)

    def scales_and_shifts(self, noise: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
        """As :class:`ModulatedBatchNorm` has it."""
        hidden = self.hidden(noise).relu()
        return self.scale(hidden), self.shift(hidden)


def norm_layer(
    shape: Sequence[int], classes: int, noise_size: int = 0, modulation: int = 0
) -> nn.Module:
    """Batch norm of values (batch, channels, ...).

    By class in ``shape`` if there are ``classes``; else by the noise for whole maps, if there are
    units of ``modulation`` to do so.
    """
    if classes:
        return ConditionalBatchNorm(shape, classes)
    if modulation:
        channels, *sides = shape
        return SelfModulatedBatchNorm((channels, *(1 for _ in sides)), noise_size, modulation)
    return _norm(shape, affine=True)


def _norm(shape: Sequence[int], affine: bool) -> nn.Module:
    channels, *sides = shape
    kind = nn.BatchNorm2d if sides else nn.BatchNorm1d
    return kind(channels, affine=affine)


class Generator(nn.Module):
    """Noise (batch, noise_size) to pictures (batch, c, h, w) of values in -1..1.

    A picture's class is told to every :class:`ConditionalBatchNorm` of its ``layers``, and to
    nothing else: a class that stands beside the noise outgrows it (docs/performance.md).
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make a picture of each row of noise, of the classes ``labels`` (batch,) if any."""
        values = noise
        for layer in self.layers:
            modulated = isinstance(layer, ModulatedBatchNorm)
            values = layer(values, noise, labels) if modulated else layer(values)
        return torch.tanh(values)


class Discriminator(nn.Module):
    """Pictures (batch, c, h, w) in -1..1 to scores (batch,): the higher, the more they seem real.

    ``features`` make numbers of a picture, which ``score`` weighs. With ``classes`` above 0 each
    class has a learnt vector that weighs them too (the projection of Miyato and Koyama 2018);
    without labels the score says nothing of the class. ``spectral_norm`` keeps the largest singular
    value of every layer's weights at 1 (Miyato et al. 2018).
    """

    def __init__(
        self, features: nn.Module, score: nn.Linear, classes: int, spectral_norm: bool
    ) -> None:
        super().__init__()
        self.features = features
        self.score = score
        self.embedding = nn.Embedding(classes, score.in_features) if classes else None
        if self.embedding is not None:
            # Of torch's own deviation, 1, it would drown what the picture says.
            nn.init.normal_(self.embedding.weight, std=NARROW)
        if spectral_norm:
            for layer in list(self.modules()):
                if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Embedding)):
                    parametrizations.spectral_norm(layer)

    def forward(self, pictures: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score each picture, as one of its class where ``labels`` (batch,) tell it."""
        features = self.features(pictures)
        scores = self.score(features).squeeze(1)
        if self.embedding is not None and labels is not None:
            scores = scores + (features * self.embedding(labels)).sum(1)
        return scores


class Adversaries(nn.Module):
    """A ``generator`` and a ``discriminator`` that are to be trained against each other.

    ``conditional`` ones know of each picture's class. Raises ValueError where the data then has
    none, or there is no noise.
    """

    generator: Generator
    discriminator: Discriminator

    def __init__(
        self, noise_size: int, conditional: bool, class_names: Sequence[str] | None
    ) -> None:
        super().__init__()
        if noise_size < 1:
            raise ValueError(f"noise_size is at least 1, got {noise_size}")
        if conditional and class_names is None:
            raise ValueError("conditional pictures are of a class, and this data has no classes")
        self.noise_size = noise_size
        self.conditional = conditional
        self.classes = len(class_names or ()) if conditional else 0
        """How many can be asked for; 0 where it is not conditional."""
