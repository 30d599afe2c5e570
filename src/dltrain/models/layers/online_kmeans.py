"""Online k-means: clusters of images without labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

MEMORY = 0.998
"""Momentum of the clusters' fractions, from batch to batch."""


class OnlineKMeans(nn.Module):
    """Clusters of images (c, h, w), found batch after batch: k-means on pixels (Sculley 2010).

    The first images become centers; from then on each center moves to the mean of all images
    that were ever nearest to it. Adversaries that are told an image's cluster as if it were a class
    have much less to invent (Sage et al. 2018).
    """

    centers: Tensor
    counts: Tensor
    fractions: Tensor

    def __init__(self, clusters: int, shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("centers", torch.zeros(clusters, math.prod(shape)))
        self.register_buffer("counts", torch.zeros(clusters))
        self.register_buffer("fractions", torch.full((clusters,), 1 / clusters))
        # On the host: how many centers there are must be known without asking the device.
        self._begun = 0

    @torch.no_grad()
    def learn(self, images: Tensor) -> Tensor:
        """The clusters (batch,) of a training batch, from which the centers learn."""
        clusters, vectors = len(self.centers), images.flatten(1).float()
        more = min(clusters - self._begun, len(vectors))
        self.centers[self._begun : self._begun + more] = vectors[:more]
        self._begun += more
        labels = self.of(images)
        with torch.autocast(vectors.device.type, enabled=False):
            members = functional.one_hot(labels, clusters).float()
            found = members.sum(0)
            self.counts += found
            moves = members.T @ vectors - found[:, None] * self.centers
            self.centers += moves / self.counts.clamp_min(1)[:, None]
            self.fractions.lerp_(found / len(vectors), 1 - MEMORY)
        return labels

    def of(self, images: Tensor) -> Tensor:
        """The cluster (batch,) of each image (batch, c, h, w): whose center is nearest."""
        vectors, centers = images.flatten(1).float(), self.centers[: max(1, self._begun)]
        with torch.autocast(vectors.device.type, enabled=False):
            return (centers.square().sum(1) - 2 * vectors @ centers.T).argmin(1)

    def drawn(self, count: int, generator: torch.Generator) -> Tensor:
        """Clusters (count,), each as often as the latest batches had it; drawn on the CPU."""
        return torch.multinomial(self.fractions.cpu(), count, replacement=True, generator=generator)

    def get_extra_state(self) -> Tensor:
        """How many centers there are; a tensor, as all of a state is."""
        return torch.tensor(self._begun)

    def set_extra_state(self, state: Tensor) -> None:
        """Go on from there."""
        self._begun = int(state)
