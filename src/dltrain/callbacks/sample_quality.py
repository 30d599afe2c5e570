"""Sample quality: how a classifier sees the images that a run generates."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dltrain.contracts.data import DataSpec, Stream, Streams
from dltrain.contracts.metric import Evaluation, Table
from dltrain.contracts.paths import FilePath
from dltrain.contracts.run import Probe, View
from dltrain.contracts.task import SamplesImages, Task
from dltrain.runs.evaluation_classifier import (
    EvaluationClassifier,
    ImageStatistics,
    Nearest,
    Scale,
    class_fractions,
    classifier_score,
    confident_fraction,
    frechet_distance,
    normalized_entropy,
    sample_images,
)

logger = logging.getLogger(__name__)

RARE = 0.1
"""A class is missing below that fraction of an even split: for ten classes, 1 % of all."""
UNEVEN = 0.5
"""The classes are uneven below that fraction of the entropy that even ones have."""
SHOWN = 20
"""Samples that are drawn beside the training images nearest to them."""
ALIKE = 0.1
"""Samples of a class are alike below that fraction of the variance that real images have."""
MOST_NAMED = 10
COVERAGE = ("confidence_ratio", "smallest_class", "class_entropy", "diversity")


class SampleQuality(Probe):
    """Adds numbers about a task's samples to its evaluations, where the task generates samples.

    ``run`` is the folder of a run of dltrain that trained a classifier on the same data; its hash
    ends the names of all that depends on it. Of the test split, from ``samples`` images:
    ``frechet``, the distance to the test images; ``frechet_floor``, that of the training images
    to them; ``classifier_score``; ``confidence_ratio``, the fraction of samples with a class of
    probability 0.9 over the same fraction of test images; ``smallest_class``, a fraction;
    ``class_entropy``, of 1; ``diversity``, the variance of features within classes over that of
    test images; and ``label_agreement`` where labels can be asked for. Of the validation split,
    from ``training_samples``: ``confidence_ratio``, ``smallest_class``, ``class_entropy`` and
    ``diversity``. When samples come to keep to a few classes, or to one image of each, there is a
    warning.

    Without ``run`` there is left ``nearest_training_image``: the median distance of ``nearest``
    samples to the training image nearest to each, beside ``nearest_to_test_image``, that of as
    many test images. Far below it, the network has memorized. Training images are
    taken without augmentation.

    Raises ``ValueError`` where the classifier knows other images or other classes than the data.
    """

    def __init__(
        self,
        spec: DataSpec,
        run: FilePath | None = None,
        samples: int = 10_000,
        training_samples: int = 1_000,
        nearest: int = 500,
        seed: int = 0,
    ) -> None:
        if samples < 2 or min(training_samples, nearest) < 0 or seed < 0:
            raise ValueError(
                "samples is at least 2; training_samples, nearest and seed are not negative"
            )
        self.samples, self.training_samples = samples, training_samples
        self.nearest, self.seed = nearest, seed
        self._scale = Scale.of(spec)
        self._classifier = None if run is None else EvaluationClassifier(run)
        if self._classifier is not None:
            _compare(self._classifier, spec)
            if training_samples:
                self.names = [f"{name}_{self._classifier.name}" for name in COVERAGE]
        self._real: ImageStatistics | None = None
        self._collapsed = False

    def begin(self, task: Task, streams: Streams, view: View) -> None:
        """Bring the classifier to the device; note where there is nothing to evaluate."""
        self._device = torch.device(view.device)
        if self._classifier is not None:
            self._classifier.to(self._device)
        if not isinstance(task, SamplesImages):
            logger.info("callbacks.sample_quality evaluates nothing: this task generates no images")

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """Little of the validation split, everything of the test split.

        Without a validation split, see at each period whether every class is there.
        """
        classifier, found = self._classifier, Evaluation()
        if not isinstance(task, SamplesImages):
            return found
        if classifier is not None and self.training_samples:
            if split == "validation":
                found |= self._validated(streams[split], task, classifier)
            if split == "train" and "validation" not in streams:
                # As many as there are samples: they are only a measure of diversity.
                some = _first(self._images(streams[split]), self.training_samples)
                real = self._real = self._real or classifier.statistics(some)
                news = self._news(self._sampled(task, classifier), real, classifier)
                found |= Evaluation(warnings=news)
        if split == "test" and self.nearest:
            found |= self._memorized(streams, task)
        if split == "test" and classifier is not None:
            found |= self._tested(streams, task, classifier)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Whether the log has already been told that classes are missing."""
        return {"collapsed": self._collapsed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do not tell it twice."""
        self._collapsed = state["collapsed"]

    def _validated(
        self, stream: Stream, task: SamplesImages, classifier: EvaluationClassifier
    ) -> Evaluation:
        """Of how many samples the classifier is sure, and whether every class is among them."""
        if self._real is None:
            self._real = classifier.statistics(self._images(stream))
        generated = self._sampled(task, classifier)
        return Evaluation(
            scalars=_coverage(generated, self._real, classifier.name),
            warnings=self._news(generated, self._real, classifier),
        )

    def _sampled(self, task: SamplesImages, classifier: EvaluationClassifier) -> ImageStatistics:
        """The few samples of an evaluation in training."""
        return classifier.statistics(self._made(task, self.training_samples, self.seed))

    def _made(
        self, task: SamplesImages, count: int, seed: int, labels: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Samples, on the run's device and in float32."""
        for part in sample_images(task, count, seed, labels):
            yield part.to(self._device, torch.float32)

    def _news(
        self, generated: ImageStatistics, real: ImageStatistics, classifier: EvaluationClassifier
    ) -> list[str]:
        """A warning, where something is missing that was not the last time."""
        warning = _missing(generated, real, classifier.class_names)
        new, self._collapsed = not self._collapsed, bool(warning)
        return [warning] if warning and new else []

    def _tested(
        self, streams: Streams, task: SamplesImages, classifier: EvaluationClassifier
    ) -> Evaluation:
        """Samples and training images, each beside the test images."""
        names = classifier.class_names
        asked = torch.arange(self.samples) % len(names) if task.conditional else None
        samples = classifier.statistics(self._made(task, self.samples, self.seed, asked))
        test = classifier.statistics(self._images(streams["test"]))
        train = classifier.statistics(self._images(streams["train"]))
        distance = frechet_distance(samples.moments, test.moments)
        floor = frechet_distance(train.moments, test.moments)
        real, fractions = (
            class_fractions(test.probabilities),
            class_fractions(samples.probabilities),
        )
        scalars = {
            f"frechet_{classifier.name}": distance,
            f"frechet_floor_{classifier.name}": floor,
            f"classifier_score_{classifier.name}": classifier_score(samples.probabilities),
            **_coverage(samples, test, classifier.name),
        }
        columns = [names, fractions.tolist(), real.tolist()]
        if asked is not None:
            right = samples.probabilities.argmax(1) == asked
            scalars[f"label_agreement_{classifier.name}"] = float(right.double().mean())
            columns.append([float(right[asked == k].double().mean()) for k in range(len(names))])
        titles = ("class", "fraction_of_samples", "fraction_of_test_images", "label_agreement")
        measures = ("confident_fraction", "classifier_score", "class_entropy")
        rows = zip(measures, *map(_measured, (samples, test, train)), strict=True)
        warning = _missing(samples, test, names)
        return Evaluation(
            scalars=scalars,
            tables={
                f"sample_quality_{classifier.name}": Table(
                    ("measure", "samples", "test_images", "training_images"),
                    [("frechet_distance_to_test_images", distance, 0.0, floor), *rows],
                ),
                f"sample_quality_{classifier.name}_classes": Table(
                    titles[: len(columns)], list(zip(*columns, strict=True))
                ),
            },
            warnings=[warning] if warning else [],
        )

    def _memorized(self, streams: Streams, task: SamplesImages) -> Evaluation:
        """How near samples are to training images, and how near test images are to them."""
        samples = torch.cat(list(self._made(task, self.nearest, self.seed)))
        test = torch.cat(list(_first(self._images(streams["test"]), self.nearest)))
        both = Nearest(torch.cat((samples, test)))
        for images in self._images(streams["train"]):
            both.add(images)
        pairs = (samples[:SHOWN].cpu(), both.found[:SHOWN].cpu())
        return Evaluation(
            scalars={
                "nearest_training_image": float(both.distances[: len(samples)].median()),
                "nearest_to_test_image": float(both.distances[len(samples) :].median()),
            },
            figures={"nearest_training_images": partial(_draw_pairs, *pairs)},
        )

    def _images(self, stream: Stream) -> Iterator[Tensor]:
        """A split's images, values in 0..1, in the order of the first epoch."""
        for batch in stream.plain():
            yield self._scale.restored(batch["input"].float())


def _compare(classifier: EvaluationClassifier, spec: DataSpec) -> None:
    shapes = ["x".join(map(str, shape)) for shape in (classifier.input_shape, spec.input.shape)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"run: that classifier knows images of {shapes[0]}, these are {shapes[1]}")
    if classifier.class_names != list(spec.class_names):
        theirs, ours = (
            ", ".join(names[:3]) for names in (classifier.class_names, spec.class_names)
        )
        raise ValueError(f"run: that classifier knows the classes {theirs}, …; these are {ours}, …")


def _first(parts: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """The first ``count`` rows, or as many as there are."""
    for part in parts:
        yield part[:count]
        count -= len(part)
        if count <= 0:
            return


def _measured(generated: ImageStatistics) -> tuple[float, float, float]:
    """What can be measured of images without others to compare with."""
    return (
        confident_fraction(generated.probabilities),
        classifier_score(generated.probabilities),
        normalized_entropy(class_fractions(generated.probabilities)),
    )


def _coverage(generated: ImageStatistics, real: ImageStatistics, name: str) -> dict[str, float]:
    """How much of what the classifier sees in real images is in the samples."""
    fractions = class_fractions(generated.probabilities)
    confident = confident_fraction(real.probabilities)
    values = (
        confident_fraction(generated.probabilities) / confident if confident else 0.0,
        float(fractions.min()),
        normalized_entropy(fractions),
        generated.diversity / real.diversity if real.diversity else 0.0,
    )
    return {f"{what}_{name}": value for what, value in zip(COVERAGE, values, strict=True)}


def _missing(generated: ImageStatistics, real: ImageStatistics, names: Sequence[str]) -> str:
    """Which classes the samples keep to, or to how little of each, in a sentence; else empty."""
    fractions = class_fractions(generated.probabilities)
    least = RARE / len(names)
    rare = [
        name for name, fraction in zip(names, fractions.tolist(), strict=True) if fraction < least
    ]
    said = []
    if rare:
        more = f" and {len(rare) - MOST_NAMED} more" if len(rare) > MOST_NAMED else ""
        said.append(
            f"below {least:.1%} of the samples are of class {', '.join(rare[:MOST_NAMED])}{more}"
        )
    if normalized_entropy(fractions) < UNEVEN:
        said.append(
            f"their classes have {normalized_entropy(fractions):.0%} of the entropy of even ones"
        )
    if generated.diversity < ALIKE * real.diversity:
        fraction = generated.diversity / real.diversity
        said.append(f"those of a class have {fraction:.0%} of the diversity of real images")
    return f"mode collapse: {'; '.join(said)}" if said else ""


def _draw_pairs(samples: Tensor, found: Tensor) -> Any:
    from dltrain.reports.sheets import draw_rows

    rows = {"sample": samples, "nearest in training": found}
    return draw_rows({name: some.movedim(1, -1).numpy() for name, some in rows.items()})
