"""A classifier that dltrain trained, to measure the sample quality of another run.

Nothing here knows how images are generated, and no task needs to know of the classifier:
``callbacks=generative callbacks.sample_quality.run=RUN`` has
:class:`~dltrain.callbacks.sample_quality.SampleQuality` ask whatever task generates images
(:class:`~dltrain.contracts.task.SamplesImages`), and add what is found to the task's own evaluation
of the test split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.contracts.task import SamplesImages
from dltrain.errors import UserError
from dltrain.files import open_within
from dltrain.runs.checkpoint import LAST
from dltrain.runs.finding import find_run
from dltrain.runs.folder import LATEST
from dltrain.runs.load import load, spec_of_run

BLOCK = 1 << 20
"""Bytes that are read at once."""
PART = 1_000
"""Images that are generated, or classified, in one go."""


class ClassifierOutput(NamedTuple):
    """What the classifier sees in images, in float32 on the CPU."""

    features: Tensor
    """(n, features)"""
    probabilities: Tensor
    """(n, classes)"""


class ImageStatistics(NamedTuple):
    """What the classifier saw in many images."""

    moments: Moments
    probabilities: Tensor
    """(n, classes)"""
    diversity: float
    """The variance of features within the classes that it takes the images for, all added up."""


class EvaluationClassifier:
    """The classifier of the run folder ``run``, with its last checkpoint.

    ``name``, by which its figures are told from another's, is the first 8 hexadecimal digits
    of that checkpoint's SHA-256. Features are the input of its last linear layer. ``class_names``
    and ``input_shape`` are those of the data that it learned from.

    Raises :class:`UserError` where there is no such run, or it is no classifier of images.
    """

    def __init__(self, run: str) -> None:
        if Path(run).name == LATEST:
            raise UserError(f"run is a run's own folder: {LATEST} moves on with every run")
        folder = find_run(run, Path())
        spec = spec_of_run(folder)
        self.task = load(folder.path, "last")
        self.name = _digest(folder.path)[:8]
        self.class_names = list(spec.class_names)
        self.input_shape = spec.input.shape
        heads = [
            layer
            for layer in self.task.modules()
            if isinstance(layer, nn.Linear) and layer.out_features == len(self.class_names)
        ]
        if not heads or len(self.input_shape) != 3:
            raise UserError(f"{run} is no classifier of images that ends in a linear layer")
        self._features = torch.empty(0)
        heads[-1].register_forward_pre_hook(self._keep_features)
        self._scale = Scale.of(spec)

    def to(self, device: torch.device) -> EvaluationClassifier:
        """Do the work there."""
        self.task.to(device)
        return self

    def __call__(self, images: Tensor) -> ClassifierOutput:
        """Look at images (n, channels, height, width) of values in 0..1, on this one's device.

        In float32, whatever the precision of the run that asks.
        """
        inputs = self._scale.normalized(images.float())
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            logits = self.task.forward({"input": inputs})["logits"]
        return ClassifierOutput(self._features.flatten(1).cpu(), logits.softmax(1).cpu())

    def statistics(self, parts: Iterable[Tensor]) -> ImageStatistics:
        """Look at part after part."""
        moments, within, probabilities = Moments(), Within(len(self.class_names)), []
        for part in parts:
            output = self(part)
            moments.add(output.features)
            within.add(output.features, output.probabilities.argmax(1))
            probabilities.append(output.probabilities)
        return ImageStatistics(moments, torch.cat(probabilities), within.variance)

    def _keep_features(self, layer: nn.Module, inputs: Any) -> None:
        self._features = inputs[0]


class Scale:
    """Between images of values in 0..1 and normalized ones; the same where nothing is given."""

    def __init__(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> None:
        self._mean = torch.tensor([0.0] if mean is None else mean)[:, None, None]
        self._std = torch.tensor([1.0] if std is None else std)[:, None, None]

    @classmethod
    def of(cls, spec: DataSpec) -> Scale:
        """That of the data's images."""
        return cls(spec.input.mean or None, spec.input.std or None)

    def normalized(self, images: Tensor) -> Tensor:
        """From 0..1 to mean 0 and standard deviation 1."""
        return (images - self._mean.to(images)) / self._std.to(images)

    def restored(self, inputs: Tensor) -> Tensor:
        """Back to 0..1."""
        return (inputs * self._std.to(inputs) + self._mean.to(inputs)).clamp(0, 1)


class Moments:
    """Mean and covariance of features, gathered part by part in float64."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | float = 0.0
        self._products: Tensor | float = 0.0

    def add(self, features: Tensor) -> None:
        """Take ``features`` (n, features) in."""
        rows = features.double()
        self.count += len(rows)
        self._sum = self._sum + rows.sum(0)
        self._products = self._products + rows.T @ rows

    @property
    def mean(self) -> Tensor:
        """Of shape (features,)."""
        assert isinstance(self._sum, Tensor), "no features"
        return self._sum / self.count

    @property
    def covariance(self) -> Tensor:
        """Of shape (features, features), unbiased."""
        mean = self.mean
        return (self._products - self.count * torch.outer(mean, mean)) / max(self.count - 1, 1)


class Within:
    """How far features are from the mean of their own class, gathered part by part in float64."""

    def __init__(self, classes: int) -> None:
        self._counts = torch.zeros(classes, dtype=torch.float64)
        self._sums: Tensor | float = 0.0
        self._squares = 0.0

    def add(self, features: Tensor, classes: Tensor) -> None:
        """Take ``features`` (n, features) of ``classes`` (n,) in."""
        rows = features.double()
        sums = rows.new_zeros(len(self._counts), rows.shape[1])
        self._sums = self._sums + sums.index_add_(0, classes, rows)
        self._counts += torch.bincount(classes, minlength=len(self._counts))
        self._squares += float(rows.square().sum())

    @property
    def variance(self) -> float:
        """The mean squared distance."""
        assert isinstance(self._sums, Tensor), "no features"
        of_means = self._sums.square().sum(1) / self._counts.clamp(min=1)
        return max(self._squares - float(of_means.sum()), 0.0) / float(self._counts.sum())


def frechet_distance(one: Moments, other: Moments) -> float:
    """The squared Wasserstein-2 distance of two Gaussians with these moments.

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^(1/2) S2 S1^(1/2))^(1/2))`` (Dowson and Landau 1982), as the
    "FID" of Heusel et al. 2017 has it, in this classifier's features for those of Inception. Even
    for images of one source it is above 0, the more so the fewer they are.
    """
    root = _root(one.covariance)
    eigenvalues = torch.linalg.eigvalsh(root @ other.covariance @ root)
    shared = eigenvalues.clamp(min=0).sqrt().sum()
    spread = one.covariance.trace() + other.covariance.trace() - 2 * shared
    return float((one.mean - other.mean).square().sum() + spread.clamp(min=0))


def _root(covariance: Tensor) -> Tensor:
    """The symmetric matrix whose square is ``covariance``."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def classifier_score(probabilities: Tensor) -> float:
    """``exp`` of the mean divergence of each image's classes (n, classes) from those of all.

    From 1 (all alike, or all unclear) to the number of classes (all clear, and as many of each):
    the "inception score" of Salimans et al. 2016, with this classifier for Inception.
    """
    each = probabilities.double()
    mean = each.mean(0)
    divergence = (torch.xlogy(each, each) - torch.xlogy(each, mean)).sum(1)
    return math.exp(float(divergence.mean()))


def confident_fraction(probabilities: Tensor, sure: float = 0.9) -> float:
    """The fraction of images (n, classes) that have a class of at least ``sure``."""
    return float((probabilities.amax(1) >= sure).double().mean())


def class_fractions(probabilities: Tensor) -> Tensor:
    """The fraction of images (n, classes) that the classifier takes for each class: (classes,)."""
    counts = torch.bincount(probabilities.argmax(1), minlength=probabilities.shape[1])
    return counts.double() / len(probabilities)


def normalized_entropy(fractions: Tensor) -> float:
    """The entropy of ``fractions`` (classes,) over the most it could be: 1 is as many of each."""
    entropy = -torch.xlogy(fractions, fractions).sum()
    return float(entropy) / math.log(len(fractions)) if len(fractions) > 1 else 1.0


class Nearest:
    """Of many images that pass by, the nearest to each of ``images`` (n, c, h, w)."""

    def __init__(self, images: Tensor) -> None:
        self.images = images
        self.found = torch.zeros_like(images)
        """Those nearest ones (n, c, h, w)."""
        self._distances = torch.full((len(images),), math.inf, device=images.device)

    def add(self, others: Tensor) -> None:
        """Let ``others`` (m, c, h, w) pass by."""
        distances, places = torch.cdist(self.images.flatten(1), others.flatten(1)).min(1)
        nearer = distances < self._distances
        self._distances[nearer] = distances[nearer]
        self.found[nearer] = others[places[nearer]]

    @property
    def distances(self) -> Tensor:
        """(n,): Euclidean, over all pixels."""
        # cdist multiplies matrices, which for near twins is not exact.
        return (self.images - self.found).flatten(1).norm(dim=1)


def sample_images(
    sampler: SamplesImages, count: int, seed: int, labels: Tensor | None = None
) -> Iterator[Tensor]:
    """``count`` images, a part (n, c, h, w) at a time, each part from a seed of its own."""
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, count, PART):
        size = min(PART, count - start)
        part_seed = int(torch.randint(2**31, (1,), generator=generator))
        asked = None if labels is None else labels[start : start + size]
        yield sampler.sample(size, part_seed, asked).columns["image"]


def _digest(run: Path) -> str:
    """Of the last checkpoint, in hexadecimal digits."""
    found = hashlib.sha256()
    with open_within(run, LAST, "rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()
