"""What every pair of adversaries has: noise becomes pictures, pictures get a score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

SLOPE = 0.2
"""Of the discriminators' leaky ReLU below 0 (Radford et al. 2016, section 3)."""
NARROW = 0.02
"""Standard deviation of DCGAN's initial weights (there, section 4)."""


class Generator(nn.Module):
    """Noise (batch, noise_size) to pictures (batch, c, h, w) of values in -1..1.

    With ``classes`` above 0 a learnt vector of the picture's class, of ``embedding_size``, is
    appended to its noise (Mirza and Osindero 2014); ``layers`` read both.
    """

    def __init__(self, layers: nn.Module, classes: int, embedding_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(classes, embedding_size) if classes else None
        self.layers = layers

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Make a picture of each row of noise, of the classes ``labels`` (batch,) if any."""
        if self.embedding is not None:
            assert labels is not None, "this generator makes pictures of a class"
            noise = torch.cat([noise, self.embedding(labels)], dim=1)
        return torch.tanh(self.layers(noise))


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
