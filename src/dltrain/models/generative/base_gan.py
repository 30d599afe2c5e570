"""What every pair of adversaries has: noise becomes images, images get a score."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dltrain.contracts.data import DataSpec
from dltrain.models.layers.shapes import image_shape

SLOPE = 0.2
"""Of the discriminators' leaky ReLU below 0 (Radford et al. 2016, section 3)."""
NARROW = 0.02
"""Standard deviation of DCGAN's initial weights (there, section 4)."""


class ConditionalBatchNorm(nn.Module):
    """Batch norm with a scale and a shift for each class (de Vries et al. 2017).

    Those have the ``shape`` (channels, ...) and are told to inputs (batch, channels, ...): with
    sides of 1 to whole maps, as is usual, else to every place of its own.
    """

    def __init__(self, shape: Sequence[int], classes: int) -> None:
        super().__init__()
        self.norm = _norm(shape, affine=False)
        self.shape = tuple(shape)
        self.scale = nn.Embedding(classes, math.prod(shape))
        self.shift = nn.Embedding(classes, math.prod(shape))
        nn.init.normal_(self.scale.weight, mean=1.0, std=NARROW)
        nn.init.zeros_(self.shift.weight)

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        """Normalize ``values``, each as one of its class in ``labels`` (batch,)."""
        scale, shift = (table(labels).view(-1, *self.shape) for table in (self.scale, self.shift))
        return torch.addcmul(shift, self.norm(values), scale)


def norm_layer(shape: Sequence[int], classes: int) -> nn.Module:
    """Batch norm of values (batch, channels, ...); if there are classes, by class in ``shape``."""
    return ConditionalBatchNorm(shape, classes) if classes else _norm(shape, affine=True)


def _norm(shape: Sequence[int], affine: bool) -> nn.Module:
    channels, *sides = shape
    kind = nn.BatchNorm2d if sides else nn.BatchNorm1d
    return kind(channels, affine=affine)


class Generator(nn.Module):
    """Noise (batch, noise_size) to images (batch, c, h, w) of values in -1..1.

    An image's class is told to every :class:`ConditionalBatchNorm` of its ``layers``, and to
    nothing else: a class that stands beside the noise outgrows it (docs/performance.md).
    """

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate an image from each row of noise, of the classes ``labels`` (batch,) if any."""
        values = noise
        for layer in self.layers:
            by_class = isinstance(layer, ConditionalBatchNorm)
            values = layer(values, labels) if by_class else layer(values)
        return torch.tanh(values)


class Discriminator(nn.Module):
    """Images (batch, c, h, w) in -1..1 to scores (batch,): the higher, the more they seem real.

    ``features`` make numbers of an image, which ``score`` weighs. With ``classes`` above 0 each
    class has a learned vector that weighs them too (the projection of Miyato and Koyama 2018);
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
            # Of torch's own standard deviation, 1, it would drown what the image says.
            nn.init.normal_(self.embedding.weight, std=NARROW)
        if spectral_norm:
            for layer in list(self.modules()):
                if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Embedding)):
                    parametrizations.spectral_norm(layer)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Score each image, as one of its class where ``labels`` (batch,) tell it."""
        features = self.features(images)
        scores = self.score(features).squeeze(1)
        if self.embedding is not None and labels is not None:
            scores = scores + (features * self.embedding(labels)).sum(1)
        return scores


class Adversaries(nn.Module):
    """A ``generator`` and a ``discriminator`` that are to be trained against each other.

    They generate images like the one input of ``spec``. ``conditional`` ones know of each image's
    class, of which its target tells the number; those with ``clusters`` know in which of them it
    is, as whoever trains them makes them out::

        GAN(DataSpec({"image": Field((1, 28, 28), "image", "input")}))

    Raises ValueError for both at once, for classes where the data has none, for inputs that are no
    images, and where there is no noise.
    """

    generator: Generator
    discriminator: Discriminator

    def __init__(
        self,
        name: str,
        spec: DataSpec,
        noise_size: int,
        conditional: bool,
        clusters: int,
    ) -> None:
        super().__init__()
        if noise_size < 1:
            raise ValueError(f"noise_size is at least 1, got {noise_size}")
        if clusters < 0:
            raise ValueError(f"clusters is a number, not negative; got {clusters}")
        if conditional and clusters:
            raise ValueError("an image's class is known, so no clusters are needed: clusters=0")
        classes = [field.size for field in spec.of("target") if field.kind == "class"]
        if conditional and not classes:
            raise ValueError("conditional images are of a class, and this data has no classes")
        channels, sides = image_shape(name, spec.facts().get("input_shape", ()))
        self.shape = (channels, sides[0], sides[1])
        """Of an image: channels, height, width."""
        self.noise_size = noise_size
        self.conditional, self.clusters = conditional, clusters
        self.classes = (classes[0] or 0) if conditional else clusters
        """How many labels both networks know, of classes or clusters; 0 where they know none."""
