"""The contracts: what the rooms of the house promise each other.

The trainer knows nothing but these. Implement :class:`Task` to train something new,
:class:`Source` to train it on something new; everything else is reused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dltrain.trainer import Trainer

Batch = dict[str, Tensor]
"""Columns of one batch, first dimension the batch, on the training device."""

Metrics = dict[str, Tensor]
"""Means over one training batch: 0-d, detached, still on the device. Always the same names."""


class Optimize(Protocol):
    """What the trainer hands a task: minimise ``loss`` over the parameter group ``name``."""

    def __call__(self, loss: Tensor, name: str = "model") -> None:
        """Backpropagate, and step when it is time."""


class Monitor(NamedTuple):
    """The metric by which one evaluation is better than another."""

    name: str
    mode: Literal["min", "max"]

    def better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` is an improvement; anything but NaN improves on nothing."""
        if than is None:
            return value == value
        return value < than if self.mode == "min" else value > than


@dataclass(frozen=True)
class Table:
    """Rows to print, and to write as csv."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]


@dataclass(frozen=True)
class Evaluation:
    """What a task says of a whole split.

    ``scalars`` are exact means over the split and go to every log. ``tables``, ``texts``
    and ``figures`` are what a user wants to look at; figures are functions, so that nothing
    is drawn (and matplotlib not imported) unless somebody asks.
    """

    scalars: dict[str, float]
    tables: dict[str, Table] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Callable[[], Figure]] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    """What the user must hear of, one sentence each: said on the terminal and in the log."""

    def __or__(self, other: Evaluation) -> Evaluation:
        """Both together; where they share a name, ``other`` has the say."""
        return Evaluation(
            scalars={**self.scalars, **other.scalars},
            tables={**self.tables, **other.tables},
            texts={**self.texts, **other.texts},
            figures={**self.figures, **other.figures},
            warnings=[*self.warnings, *other.warnings],
        )


class Task(nn.Module, ABC):
    """Owns the network(s), decides what to minimise and in which order.

    The trainer alone decides how: zero_grad, regularizer, mixed precision, clipping,
    accumulation and the step all happen inside ``optimize``.
    """

    monitor: Monitor = Monitor("loss", "min")
    recordable: bool = False
    """Whether a training step is the same work on every batch of one shape: nothing in it is
    decided in Python by what was before, so that a CUDA graph may replay it."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the name that ``optimize(loss, name)`` uses; one optimizer each.

        What is frozen is left out, or penalties and norm limits would act on it.
        """
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    @abstractmethod
    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Call ``optimize`` once or more; return this batch's means, detached."""

    @abstractmethod
    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """Judge a whole split; called in eval mode, without gradients."""

    def evaluate_test(self, batches: Iterable[Batch]) -> Evaluation:
        """Judge the test split, once, at the end of a run; called as :meth:`evaluate` is.

        For a task that has more to tell than it can afford after every epoch. What
        :meth:`evaluate` tells of a split belongs in here too.
        """
        return self.evaluate(batches)

    @abstractmethod
    def predict(self, batch: Batch) -> Tensor:
        """Return the network's answer for each example of ``batch``, first dimension the batch."""


@runtime_checkable
class Sampler(Protocol):
    """What a task that makes pictures offers besides :class:`Task`.

    Both methods see to eval mode themselves and draw from a generator of their own (mode and global
    random state stay as they are). They return pictures (n, channels, height, width) of values in
    0..1; the same arguments give the same pictures.
    """

    @property
    def conditional(self) -> bool:
        """Whether pictures of a class can be asked for."""

    def sample(self, count: int, seed: int, labels: Tensor | None = None) -> Tensor:
        """``count`` pictures; of the classes ``labels`` (count,) where the task is conditional.

        Without ``labels`` a conditional task takes its classes in turn. Raises ``ValueError`` for
        labels where it is not conditional, or that it has no class for.
        """

    def interpolate(self, rows: int, steps: int, seed: int) -> Tensor:
        """``rows * steps`` pictures, row by row: on the way between two latent points each."""


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


class Augment:
    """Random changes of training examples, which a source takes and a config nests in it.

    A kind and no more: that a class is one lets a run folder's config name it.
    """


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


class Schedule(ABC):
    """The learning rate as a pure function of progress: nothing to save, nothing to resume.

    Warm-up rises linearly from ``1/n`` to 1 over the first ``n`` steps; what remains of the run
    is then the shape's whole range. Give at most one of the three ``warmup_*``.
    ``total_steps`` and ``steps_per_epoch`` come from the run.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        warmup_steps: int = 0,
        warmup_epochs: float = 0,
        warmup_percent: float = 0,
    ) -> None:
        if sum(bool(given) for given in (warmup_steps, warmup_epochs, warmup_percent)) > 1:
            raise ValueError("give one of warmup_steps, warmup_epochs, warmup_percent, not more")
        if min(warmup_steps, warmup_epochs, warmup_percent) < 0 or warmup_percent > 100:
            raise ValueError("a warm-up is not negative, and at most 100 per cent")
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.warmup = round(
            warmup_steps + warmup_epochs * steps_per_epoch + warmup_percent / 100 * total_steps
        )

    @abstractmethod
    def shape(self, progress: float) -> float:
        """The multiplier at ``progress`` in [0, 1) of what follows the warm-up."""

    def __call__(self, step: int) -> float:
        """The multiplier of the base learning rate at ``step``, counted from 0."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        return self.shape((step - self.warmup) / max(1, self.total_steps - self.warmup))


class Regularizer(ABC):  # noqa: B024 - every method has a default, but it means nothing bare
    """Holds weights back; never biases or norm scales. Each method defaults to costing nothing."""

    weight_decay: float = 0.0
    """The part that is exactly ``weight_decay/2 * ||w||^2``; it rides in the optimizer's own
    weight decay where that adds ``weight_decay * w`` to the gradient, else is a penalty."""

    def penalty(self, weights: Sequence[Tensor]) -> Tensor | None:
        """A 0-d tensor added to the loss of every step, or None."""
        return None

    def after_step(self, weights: Sequence[Tensor]) -> None:
        """Move the weights back into an allowed set, in place and without gradients."""
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
