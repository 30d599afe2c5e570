"""What the simplest models make of the same data: a result is good only beside them."""

from __future__ import annotations

import logging
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from dltrain.contracts.data import Batch, Field, Stream, Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Probe, Setup, View
from dltrain.contracts.task import Task

logger = logging.getLogger(__name__)

SIDE = 16
"""Pixels to a side of the images that a linear model sees."""
WORK = 1e11
"""Multiplications that fitting may take, about; a few seconds."""
MOST_FEATURES = 5_000
"""Numbers of an example beyond which there is no linear model."""


class Baseline(Probe):
    """Fits simple models to training examples, and tells how they do on the test split.

    Of classes: the most frequent one, and a logistic regression; of numbers: their mean, and a
    ridge regression. Their inputs are the network's own: a table's features, standardized, without
    the columns that the network learns vectors of; images of 16x16 pixels; of texts the words and
    pairs of words, by TF-IDF. Where there is no test split, it is the validation split. It happens
    once, as the run ends. The network's evaluation gets scalars such as
    ``baseline_linear_accuracy``, and a warning says where it is no better.

    At most ``examples`` are fitted to, of which there are at most ``values`` numbers or tokens:
    the first batches of the first epoch, without augmentation. A task that is neither a
    classification nor a regression has no baseline.
    """

    def __init__(self, examples: int = 10_000, values: int = 2_000_000) -> None:
        if examples < 2 or values < 2:
            raise ValueError("examples and values must be at least 2")
        self.examples, self.values = examples, values
        self._kind: _Kind | None = None
        self._split = "test"
        self._input: Field | None = None
        self._note = self._lacks = ""

    def check(self, setup: Setup) -> None:
        """See what there is to predict, and from what."""
        inputs, targets = setup.spec.of("input"), setup.spec.of("target")
        self._split = "test" if "test" in setup.splits else "validation"
        others = inputs[1:]
        if inputs and len(targets) == 1 and all(other.kind == "class" for other in others):
            self._lacks = " The linear model sees the numbers alone." if others else ""
            self._input, kinds = inputs[0], {"class": _Classes, "number": _Numbers}
            kind = kinds.get(targets[0].kind)
            if kind is not None and kind.measure in setup.metrics:
                self._kind = kind(targets[0])

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """Fit, and predict the split, once the run ends."""
        ends = view.progress.step >= view.progress.max_steps or bool(view.stop_reason)
        if self._kind is None or split != self._split or not ends:
            return Evaluation()
        try:
            return self._found(self._kind, streams)
        except (ValueError, ArithmeticError, MemoryError, np.linalg.LinAlgError) as error:
            # After hours of training, nothing of this may cost the run.
            logger.warning(f"callbacks.baseline: no baseline could be fitted: {error}")
            return Evaluation()

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Compare."""
        kind, found = self._kind, evaluation.scalars
        if kind is None or split != self._split or not self._note:
            return
        own = found[kind.measure]
        told = {
            title: found[name]
            for suffix, title in kind.titles.items()
            if (name := f"baseline_{suffix}_{kind.measure}") in found
        }
        shown = ", ".join(f"{title} {value:.4g}" for title, value in told.items())
        logger.info(f"{split} {kind.measure} of {shown}; of this network {own:.4g}. {self._note}")
        unbeaten = [title for title, value in told.items() if not kind.beats(own, value, title)]
        if unbeaten:
            logger.warning(
                f"on the {split} split this network is no better than {' and '.join(unbeaten)} "
                f"({kind.measure} {own:.4g} against {told[unbeaten[-1]]:.4g})."
            )

    def _found(self, kind: _Kind, streams: Streams) -> Evaluation:
        started = time.perf_counter()
        assert self._input is not None
        features = _features(self._input)
        inputs, targets = _gathered(streams["train"], features, self.examples, self.values)
        models: dict[str, _Model] = {kind.simplest: kind.constant(targets)}
        model = kind.linear(self._input.kind, inputs.values) if inputs.usable else None
        if model is not None and kind.varies(targets):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a model that has not converged will do
                models[_name(self._input)] = model.fit(inputs.joined(), targets)
        scalars: dict[str, float] = {}
        predicted: dict[str, list[NDArray[Any]]] = {name: [] for name in models}
        true = []
        for batch in streams[self._split].plain():
            some = features(batch)
            true.append(batch["target"].cpu().numpy())
            for name, fitted in models.items():
                predicted[name].append(fitted.predict(some))
        for name, parts in predicted.items():
            for measure, value in kind.measured(np.concatenate(parts), np.concatenate(true)):
                scalars[f"baseline_{name}_{measure}"] = value
        total, seconds = streams["train"].examples, time.perf_counter() - started
        of = f"{len(targets):,}" + (f" of {total:,}" if total and total > len(targets) else "")
        self._note = f"(Fitted to {of} training examples, {seconds:.1f} s.{self._lacks})"
        return Evaluation(scalars)


_Model = Any
"""What scikit-learn has ``fit`` and ``predict`` of."""


class _Constant:
    """One answer to everything."""

    def __init__(self, answer: NDArray[Any]) -> None:
        self._answer = answer

    def predict(self, inputs: Sequence[Any]) -> NDArray[Any]:
        return np.repeat(self._answer[None], len(inputs), axis=0)


class _Kind(ABC):
    """What is predicted, and how predictions are measured."""

    measure: str
    simplest: str
    simplest_title: str

    def __init__(self, target: Field) -> None:
        self.target = target
        self.titles: Mapping[str, str] = {
            self.simplest: self.simplest_title,
            "linear": "a linear model",
            "words": "a bag of words",
        }

    @abstractmethod
    def constant(self, targets: NDArray[Any]) -> _Constant:
        """The best single answer."""

    @abstractmethod
    def linear(self, of: str, values: int) -> _Model:
        """A linear model of inputs of that kind, of so many numbers or tokens in all."""

    @abstractmethod
    def varies(self, targets: NDArray[Any]) -> bool:
        """Whether there is anything to fit."""

    @abstractmethod
    def measured(self, predicted: NDArray[Any], true: NDArray[Any]) -> Iterator[tuple[str, float]]:
        """Names and values."""

    @abstractmethod
    def beats(self, own: float, other: float, title: str) -> bool:
        """Whether the network is better; as good will do, but not as a single answer."""


class _Classes(_Kind):
    """Of each example one class."""

    measure, simplest, simplest_title = "accuracy", "majority", "the most frequent class"

    def constant(self, targets: NDArray[Any]) -> _Constant:
        # A balanced epoch does not tell which class is the most frequent.
        counts = self.target.counts or np.bincount(targets)
        return _Constant(np.asarray(np.argmax(counts)))

    def linear(self, of: str, values: int) -> _Model:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        # Words are many and rare: less is taken from their weights.
        strength = 10.0 if of == "tokens" else 1.0
        # An iteration multiplies every value by each class's weight, forward and back.
        most = int(np.clip(WORK / (4 * values * (self.target.size or 2)), 10, 200))
        return make_pipeline(_scaler(of), LogisticRegression(C=strength, max_iter=most))

    def varies(self, targets: NDArray[Any]) -> bool:
        return len(np.unique(targets)) > 1

    def measured(self, predicted: NDArray[Any], true: NDArray[Any]) -> Iterator[tuple[str, float]]:
        from sklearn.metrics import f1_score

        yield "accuracy", float((predicted == true).mean())
        yield "f1", float(f1_score(true, predicted, average="macro", zero_division=0))

    def beats(self, own: float, other: float, title: str) -> bool:
        return own > other or (own == other and title != self.titles[self.simplest])


class _Numbers(_Kind):
    """Of each example one number or several."""

    measure, simplest, simplest_title = "rmse", "mean", "the mean"

    def constant(self, targets: NDArray[Any]) -> _Constant:
        return _Constant(targets.mean(0))

    def linear(self, of: str, values: int) -> _Model:
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline

        return make_pipeline(_scaler(of), Ridge(alpha=1.0))

    def varies(self, targets: NDArray[Any]) -> bool:
        return len(targets) > 1

    def measured(self, predicted: NDArray[Any], true: NDArray[Any]) -> Iterator[tuple[str, float]]:
        errors = predicted.reshape(len(true), -1) - true.reshape(len(true), -1)
        yield "rmse", float(np.sqrt(np.square(errors, dtype=np.float64).mean()))

    def beats(self, own: float, other: float, title: str) -> bool:
        return own < other or (own == other and title != self.titles[self.simplest])


def _scaler(of: str) -> _Model:
    """What an input of that kind becomes before a linear model."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import StandardScaler

    if of != "tokens":
        return StandardScaler()
    return TfidfVectorizer(
        tokenizer=str.split, token_pattern=None, lowercase=False, ngram_range=(1, 2),
        sublinear_tf=True,
    )  # fmt: skip


def _name(field: Field) -> str:
    return "words" if field.kind == "tokens" else "linear"


class _Inputs:
    """Features of some examples, as far as a linear model can take them."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.values = 0

    @property
    def usable(self) -> bool:
        """Whether an example has few enough numbers."""
        first = self.parts[0]
        return isinstance(first, list) or 0 < first.shape[1] <= MOST_FEATURES

    def joined(self) -> Any:
        """All of them."""
        if isinstance(self.parts[0], list):
            return [text for part in self.parts for text in part]
        return np.concatenate(self.parts)


def _gathered(
    stream: Stream, features: Callable[[Batch], Any], examples: int, values: int
) -> tuple[_Inputs, NDArray[Any]]:
    """The first batches, which a training stream has in random order, and their targets."""
    inputs, targets, count = _Inputs(), [], 0
    for batch in stream.plain():
        some = features(batch)
        inputs.parts.append(some)
        targets.append(batch["target"].cpu().numpy())
        count += len(some)
        inputs.values += batch["input"].numel() if isinstance(some, list) else some.size
        if count >= examples or inputs.values >= values:
            break
    return inputs, np.concatenate(targets)


def _features(field: Field) -> Callable[[Batch], Any]:
    """From a batch to rows of numbers (n, features), or to texts of token numbers."""
    if field.kind == "tokens":
        return lambda batch: _texts(batch["input"], field.fill)
    if field.kind == "image":
        return lambda batch: _rows(_small(batch["input"].float()))
    return lambda batch: _rows(batch["input"])


def _rows(inputs: Tensor) -> NDArray[Any]:
    return inputs.flatten(1).double().cpu().numpy()


def _small(images: Tensor) -> Tensor:
    """At most 16x16 pixels."""
    height, width = images.shape[-2:]
    return functional.adaptive_avg_pool2d(images, (min(height, SIDE), min(width, SIDE)))


def _texts(ids: Tensor, fill: int | float | None) -> list[str]:
    rows = ids.cpu().tolist()
    return [" ".join(str(number) for number in row if number != fill) for row in rows]
