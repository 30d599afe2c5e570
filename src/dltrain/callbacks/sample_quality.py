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
from dltrain.runs.judge import (
    Judge,
    Nearest,
    Scale,
    Seen,
    believable,
    class_shares,
    classifier_score,
    draw,
    evenness,
    frechet_distance,
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
COVERAGE = ("believability", "smallest_class", "class_entropy", "variety")


class SampleJudge(Probe):
    """Adds numbers about a task's samples to its evaluations, where the task generates samples.

    ``run`` is the folder of a run of dltrain that trained a classifier on the same data; its hash
    ends the names of all that depends on it. Of the test split, from ``samples`` images:
    ``frechet``, the distance to the test images; ``frechet_floor``, that of the training images
    to them; ``classifier_score``; ``believability``, the fraction of samples with a class of
    probability 0.9 over the same fraction of test images; ``smallest_class``, a fraction;
    ``class_entropy``, of 1; ``variety``, the variance of features within classes over that of test
    images; and ``label_agreement`` where labels can be asked for. Of the validation split, from
    ``training_samples``: ``believability``, ``smallest_class``, ``class_entropy``, ``variety``.
    When samples come to keep to a few classes, or to one image of each, there is a warning.

    Without ``run`` there is left ``nearest_training_picture``: the median distance of ``nearest``
    samples to the training image nearest to each, beside ``nearest_to_test_picture``, that of as
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
        self._judge = None if run is None else Judge(run)
        if self._judge is not None:
            _compare(self._judge, spec)
            if training_samples:
                self.names = [f"{name}_{self._judge.name}" for name in COVERAGE]
        self._real: Seen | None = None
        self._collapsed = False

    def begin(self, task: Task, streams: Streams, view: View) -> None:
        """Bring the classifier to the device; note where there is nothing to evaluate."""
        self._device = torch.device(view.device)
        if self._judge is not None:
            self._judge.to(self._device)
        if not isinstance(task, SamplesImages):
            logger.info("callbacks.judge evaluates nothing: this task generates no images")

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """Little of the validation split, everything of the test split.

        Without a validation split, see at each period whether every class is there.
        """
        judge, found = self._judge, Evaluation()
        if not isinstance(task, SamplesImages):
            return found
        if judge is not None and self.training_samples:
            if split == "validation":
                found |= self._validated(streams[split], task, judge)
            if split == "train" and "validation" not in streams:
                # As many as there are samples: they are only a measure of variety.
                some = _first(self._images(streams[split]), self.training_samples)
                real = self._real = self._real or judge.look(some)
                news = self._news(self._look_on(task, judge), real, judge)
                found |= Evaluation(warnings=news)
        if split == "test" and self.nearest:
            found |= self._memorized(streams, task)
        if split == "test" and judge is not None:
            found |= self._tested(streams, task, judge)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Whether the log has already been told that classes are missing."""
        return {"collapsed": self._collapsed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do not tell it twice."""
        self._collapsed = state["collapsed"]

    def _validated(self, stream: Stream, task: SamplesImages, judge: Judge) -> Evaluation:
        """Of how many samples the classifier is sure, and whether every class is among them."""
        if self._real is None:
            self._real = judge.look(self._images(stream))
        seen = self._look_on(task, judge)
        return Evaluation(
            scalars=_coverage(seen, self._real, judge.name),
            warnings=self._news(seen, self._real, judge),
        )

    def _look_on(self, task: SamplesImages, judge: Judge) -> Seen:
        """The few samples of an evaluation in training."""
        return judge.look(self._made(task, self.training_samples, self.seed))

    def _made(
        self, task: SamplesImages, count: int, seed: int, labels: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Samples, on the run's device and in float32."""
        for part in draw(task, count, seed, labels):
            yield part.to(self._device, torch.float32)

    def _news(self, seen: Seen, real: Seen, judge: Judge) -> list[str]:
        """A warning, where something is missing that was not the last time."""
        warning = _missing(seen, real, judge.class_names)
        new, self._collapsed = not self._collapsed, bool(warning)
        return [warning] if warning and new else []

    def _tested(self, streams: Streams, task: SamplesImages, judge: Judge) -> Evaluation:
        """Samples and training images, each beside the test images."""
        names = judge.class_names
        asked = torch.arange(self.samples) % len(names) if task.conditional else None
        samples = judge.look(self._made(task, self.samples, self.seed, asked))
        test = judge.look(self._images(streams["test"]))
        train = judge.look(self._images(streams["train"]))
        distance = frechet_distance(samples.moments, test.moments)
        floor = frechet_distance(train.moments, test.moments)
        real, shares = class_shares(test.probabilities), class_shares(samples.probabilities)
        scalars = {
            f"frechet_{judge.name}": distance,
            f"frechet_floor_{judge.name}": floor,
            f"classifier_score_{judge.name}": classifier_score(samples.probabilities),
            **_coverage(samples, test, judge.name),
        }
        columns = [names, shares.tolist(), real.tolist()]
        if asked is not None:
            right = samples.probabilities.argmax(1) == asked
            scalars[f"label_agreement_{judge.name}"] = float(right.double().mean())
            columns.append([float(right[asked == k].double().mean()) for k in range(len(names))])
        titles = ("class", "share_of_samples", "share_of_test_pictures", "label_agreement")
        measures = ("believable", "classifier_score", "class_entropy")
        rows = zip(measures, *map(_measured, (samples, test, train)), strict=True)
        warning = _missing(samples, test, names)
        return Evaluation(
            scalars=scalars,
            tables={
                f"judge_{judge.name}": Table(
                    ("measure", "samples", "test_pictures", "training_pictures"),
                    [("frechet_distance_to_test_pictures", distance, 0.0, floor), *rows],
                ),
                f"judge_{judge.name}_classes": Table(
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
                "nearest_training_picture": float(both.distances[: len(samples)].median()),
                "nearest_to_test_picture": float(both.distances[len(samples) :].median()),
            },
            figures={"nearest_training_pictures": partial(_draw_pairs, *pairs)},
        )

    def _images(self, stream: Stream) -> Iterator[Tensor]:
        """A split's images, values in 0..1, in the order of the first epoch."""
        for batch in stream.plain():
            yield self._scale.restored(batch["input"].float())


def _compare(judge: Judge, spec: DataSpec) -> None:
    shapes = ["x".join(map(str, shape)) for shape in (judge.input_shape, spec.input.shape)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"run: that classifier knows images of {shapes[0]}, these are {shapes[1]}")
    if judge.class_names != list(spec.class_names):
        theirs, ours = (", ".join(names[:3]) for names in (judge.class_names, spec.class_names))
        raise ValueError(f"run: that classifier knows the classes {theirs}, …; these are {ours}, …")


def _first(parts: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """The first ``count`` rows, or as many as there are."""
    for part in parts:
        yield part[:count]
        count -= len(part)
        if count <= 0:
            return


def _measured(seen: Seen) -> tuple[float, float, float]:
    """What can be measured of images without others to compare with."""
    return (
        believable(seen.probabilities),
        classifier_score(seen.probabilities),
        evenness(class_shares(seen.probabilities)),
    )


def _coverage(seen: Seen, real: Seen, name: str) -> dict[str, float]:
    """How much of what the classifier sees in real images is in the samples."""
    shares = class_shares(seen.probabilities)
    believed = believable(real.probabilities)
    values = (
        believable(seen.probabilities) / believed if believed else 0.0,
        float(shares.min()),
        evenness(shares),
        seen.variety / real.variety if real.variety else 0.0,
    )
    return {f"{what}_{name}": value for what, value in zip(COVERAGE, values, strict=True)}


def _missing(seen: Seen, real: Seen, names: Sequence[str]) -> str:
    """Which classes the samples keep to, or to how little of each, in a sentence; else empty."""
    shares = class_shares(seen.probabilities)
    least = RARE / len(names)
    rare = [name for name, share in zip(names, shares.tolist(), strict=True) if share < least]
    said = []
    if rare:
        more = f" and {len(rare) - MOST_NAMED} more" if len(rare) > MOST_NAMED else ""
        said.append(
            f"below {least:.1%} of the samples are of class {', '.join(rare[:MOST_NAMED])}{more}"
        )
    if evenness(shares) < UNEVEN:
        said.append(f"their classes have {evenness(shares):.0%} of the entropy of even ones")
    if seen.variety < ALIKE * real.variety:
        share = seen.variety / real.variety
        said.append(f"those of a class have {share:.0%} of the variety of real images")
    return f"mode collapse: {'; '.join(said)}" if said else ""


def _draw_pairs(samples: Tensor, found: Tensor) -> Any:
    from dltrain.reports.sheets import draw_rows

    rows = {"sample": samples, "nearest in training": found}
    return draw_rows({name: some.movedim(1, -1).numpy() for name, some in rows.items()})
