"""On the way out: the contracts as they were, in terms of :mod:`dltrain.contracts`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dltrain.contracts import run as contracts_run
from dltrain.contracts import task as contracts_task
from dltrain.contracts.data import Batch, DataSpec, Field, Stream
from dltrain.contracts.metric import Evaluation, Metric, Outputs, Table
from dltrain.contracts.run import Schedule
from dltrain.contracts.task import Metrics, Monitor, Optimize
from dltrain.contracts.task import Samples as Sampler
from dltrain.evaluate import evaluate

if TYPE_CHECKING:
    from dltrain.trainer import Trainer

__all__ = ["Batch", "Evaluation", "Metrics", "Monitor", "Optimize", "Sampler", "Schedule", "Table"]


class Task(contracts_task.Task):
    """A task by either contract."""

    recordable: bool = False

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Judge a whole split; called in eval mode, without gradients."""
        assert isinstance(batches, Loader)
        return evaluate(self, AsStream(batches), seed=0, epoch=0, final=False)

    def evaluate_test(self, batches: Iterable[Batch]) -> Evaluation:
        """Judge the test split, once, at the end of a run."""
        if type(self).evaluate is not Task.evaluate:
            return self.evaluate(batches)
        assert isinstance(batches, Loader)
        return evaluate(self, AsStream(batches), seed=0, epoch=0, final=True)

    def forward(self, batch: Batch) -> Outputs:
        """By the old contract."""
        return {"output": self.predict(batch)}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """None by the old contract."""
        return ()

    def predict(self, batch: Batch) -> Any:
        """The network's answer: the first of its outputs."""
        return next(iter(self.forward(batch).values()))


class Loader(ABC):
    """Batches already on the device, in an order that depends on ``(seed, epoch)`` alone."""

    @abstractmethod
    def __len__(self) -> int:
        """Batches in an epoch."""

    @property
    @abstractmethod
    def examples(self) -> int:
        """Examples in an epoch."""

    @abstractmethod
    def set_epoch(self, epoch: int) -> None:
        """Choose the order and the augmentation of epoch ``epoch``, counted from 0."""

    @abstractmethod
    def batches(self, start: int = 0) -> Iterator[Batch]:
        """The epoch's batches from number ``start`` on."""

    @abstractmethod
    def indices(self, batch: int) -> Tensor:
        """Which examples of the split make up batch number ``batch`` of the current epoch."""

    def plain(self) -> Iterator[Batch]:
        """The epoch's batches as they are without augmentation."""
        return self.batches()

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()


@dataclass(frozen=True)
class Loaders:
    """One loader a split; ``validation`` is None when none was set aside."""

    train: Loader
    validation: Loader | None
    test: Loader


class Source(ABC):
    """Where examples come from. Constructing one is cheap; :meth:`loaders` reads the data."""

    @property
    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What a model or task may want to know, known without reading the data.

        ``input_shape`` (without the batch), ``outputs`` (numbers the network must give) and,
        for classification, ``class_names``. Numbers, texts and lists of them: the run folder
        keeps them, so that a trained task is loaded without its data.
        """

    @abstractmethod
    def loaders(self, device: torch.device, seed: int) -> Loaders:
        """Read the data (downloading it where it is missing) and put it on ``device``.

        Raises :class:`~dltrain.errors.UserError` if it can't be had or is not what it says.
        """

    def keep(self, folder: Path) -> None:
        """Write into a run's ``folder`` what a prediction on new examples needs, if anything."""
        return None


class AsStream(Stream):
    """A loader by the new contract."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    @property
    def steps_per_epoch(self) -> int | None:
        """Its length."""
        return len(self.loader)

    @property
    def examples(self) -> int | None:
        """Its examples."""
        return self.loader.examples

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Its batches."""
        self.loader.set_epoch(epoch)
        return self.loader.batches(start)

    def plain(self) -> Iterator[Batch]:
        """As a loader of an evaluated split is iterated."""
        return iter(self.loader)

    def rows(self, epoch: int, position: int) -> Tensor:
        """Its indices."""
        return self.loader.indices(position)


def spec_of(facts: Mapping[str, Any]) -> DataSpec:
    """What the old facts say, as a spec."""
    names = tuple(facts.get("class_names", ()))
    outputs = facts["outputs"]
    if "vocabulary_size" in facts:
        whole = 10**9
        shares = facts.get("word_frequencies", ())
        source = Field(
            (None,), "tokens", "input", size=facts["vocabulary_size"],
            names=tuple(facts.get("words", ())),
            counts=tuple(round(share * whole) for share in shares),
            fill=facts.get("pad_index", 0),
        )  # fmt: skip
    else:
        shape = tuple(facts["input_shape"])
        picture = "mean" in facts
        source = Field(
            shape, "image" if picture else "number", "input",
            names=tuple(facts.get("feature_names", ())),
            mean=tuple(facts.get("mean", ())), std=tuple(facts.get("std", ())),
        )  # fmt: skip
    if names:
        target = Field((), "class", "target", size=outputs, names=names)
    else:
        unit = "target_mean" in facts
        target = Field(
            (outputs,), "number", "target",
            mean=(facts["target_mean"],) if unit else (),
            std=(facts["target_std"],) if unit else (),
        )  # fmt: skip
    return DataSpec({"input": source, "target": target})


class Regularizer(contracts_run.Regularizer):
    """Holds weights back; never biases or norm scales. Each method defaults to costing nothing."""

    weight_decay: float = 0.0
    """The part that is exactly ``weight_decay/2 * ||w||^2``; it rides in the optimizer's own
    weight decay where that adds ``weight_decay * w`` to the gradient, else is a penalty."""

    def penalty(self, weights: Sequence[Tensor]) -> Tensor | None:
        """A 0-d tensor added to the loss of every step, or None."""
        return None


class Callback:
    """Watches a run. It may read, write files and call ``trainer.stop``; it changes no weight.

    Every hook defaults to nothing. ``state_dict`` travels in the checkpoint, so that a resumed
    run's callbacks go on where they were.
    """

    def check(self, loaders: Loaders) -> None:
        """Raise :class:`UserError` where the data cannot give what is needed; no folder yet."""

    def start(self, trainer: Trainer) -> None:
        """Before the first step, of a new run or a resumed one; state is loaded after it."""

    def log(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """Means of the training metrics over the last ``log_every`` steps."""

    def note(self, trainer: Trainer, text: str) -> None:
        """The loop has decided something that the user should hear of."""

    def judge(self, trainer: Trainer, split: str) -> Evaluation:
        """What to add to the task's own evaluation of ``validation`` or ``test``.

        Called before it is told, in eval mode and without gradients; the data is in
        ``trainer.loaders``.
        """
        return Evaluation(scalars={})

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """A split was judged: ``train`` (means since the last time), ``validation``, ``test``."""

    def end(self, trainer: Trainer, status: str) -> None:
        """The run is ``finished``, ``interrupted`` or ``failed``."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and primitives only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
