"""What to minimize, and what to answer."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from dltrain.contracts.data import Batch, Draw, Field, Streams
from dltrain.contracts.metric import Metric, Mode, Outputs

Metrics = Mapping[str, "Tensor | tuple[Tensor, Tensor]"]
"""Of one training batch, by name: a mean over its examples, or ``(mean, weight)`` of something else
than examples, such as tokens; a weight of 0 says that there is no value. 0-d, detached, still on
the device. Always the same names."""


class Optimize(Protocol):
    """What the loop hands a task: minimize ``loss`` over the parameter group ``name``."""

    def __call__(
        self,
        loss: Tensor | Callable[[], Tensor],
        name: str = "model",
        weight: Tensor | float | None = None,
    ) -> None:
        """Backpropagate, and step when it is time.

        ``loss`` is 0-d, or a function that computes it anew, for optimizers that ask several times
        a step. ``weight`` is what it is a mean over (None: as much as any other batch): batches
        that are accumulated, and ranks, are averaged by it; one of 0 counts for nothing.
        """


class Monitor(NamedTuple):
    """The metric by which one evaluation is better than another."""

    name: str
    mode: Mode

    def better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` is an improvement; any finite number improves on nothing."""
        if than is None or not math.isfinite(value):
            return math.isfinite(value)
        return value < than if self.mode == "min" else value > than


class Phase(NamedTuple):
    """A part of a run: so many ``steps`` on the batches of ``stream``.

    In one that is ``scheduled`` the learning rate goes through the whole schedule; else the
    schedule is laid over the run. In one that is ``fresh`` the optimizers begin anew, without the
    momentum of the one before.
    """

    name: str
    steps: int
    stream: str = "train"
    scheduled: bool = False
    fresh: bool = False


class Task(nn.Module, ABC):
    """Owns the network(s), decides what to minimize and in which order.

    The loop alone decides how: zero_grad, regularizer, mixed precision, clipping, accumulation
    and the step all happen inside ``optimize``.
    """

    monitor: Monitor = Monitor("loss", "min")
    replayable: bool = False
    """Whether a training step is the same work on every batch of one shape: nothing in it is
    decided in Python by what was before, so that a CUDA graph may replay it."""
    any_size: bool = False
    """Whether images of any size will do: new ones are read at their own."""

    needs_target: bool = True
    """Whether it learns from a target. If not, data without any will do."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Parameters by the name that ``optimize(loss, name)`` uses; one optimizer each.

        What is frozen is left out, or penalties and norm limits would act on it.
        """
        return {"model": [p for p in self.parameters() if p.requires_grad]}

    def opened(self, streams: Streams) -> None:
        """The data is open: of a new run, of one that goes on, or that is evaluated on it again.

        What is counted once over its examples, such as who has rated what, is counted here. What a
        run is used with, too, is kept in buffers, whose sizes follow from the data's spec.
        """
        return None

    def phases(self, steps: int, steps_per_epoch: Mapping[str, int | None]) -> Sequence[Phase]:
        """The phases of a run of ``steps`` steps, in order. Their steps sum to ``steps``.

        ``steps_per_epoch`` is by stream. Raises :class:`ValueError` where that is impossible.
        """
        return [Phase("train", steps)]

    def enter(self, phase: Phase) -> None:
        """A phase begins, or goes on after an interruption."""
        return None

    def leave(self, phase: Phase) -> None:
        """A phase is over, once: its last gradients are stepped, its evaluation is to come."""
        return None

    @abstractmethod
    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Call ``optimize`` once or more; return this batch's means, detached."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """The network's raw, differentiable outputs: traced, attacked and taught from."""

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """What the metrics need of a batch; in eval mode, without gradients.

        All noise comes from ``draw``.
        """
        return self.forward(batch)

    @abstractmethod
    def metrics(self, final: bool) -> Sequence[Metric]:
        """New metrics, for one split; ``final`` is the test split at the end of a run.

        Called in eval mode, without gradients, as :meth:`eval_step` is.
        """

    def training_state(self) -> dict[str, Any]:
        """What only more training needs: counters, carried state, replay. Tensors and numbers.

        A tensor has a row for each row of a batch, of which each of several ranks has its own.
        """
        return {}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`training_state` returned."""
        return None


@dataclass(frozen=True)
class Predictions:
    """Answers to some examples, in the data's own classes and units.

    ``columns`` by name, a row an example; ``fields`` says of each what it is, so that it can be
    written without knowing the task.
    """

    columns: Mapping[str, Tensor]
    fields: Mapping[str, Field]


@runtime_checkable
class Predicts(Protocol):
    """A task that answers questions about new examples."""

    def predict(self, batch: Batch) -> Predictions:
        """Classes and probabilities, numbers in the target's unit; in eval mode."""


class Painted(NamedTuple):
    """An image that shows an answer: ``pixels`` uint8 (height, width, 3).

    Or (height, width): numbers of classes, whose red, green and blue ``colors`` are.
    """

    pixels: Tensor
    colors: Sequence[Sequence[int]] = ()


@runtime_checkable
class Recommends(Protocol):
    """A task that answers which items a user would like best."""

    def recommend(self, user: int, count: int, without: Sequence[int] = ()) -> Predictions:
        """The best ``count`` items for a user, best first, none of ``without``; in eval mode.

        Users and items go by their numbers in the data's spec; 0 is a user whom nobody knows.
        Columns ``item`` and ``score``, a row an item; fewer where there are no more.
        """


@runtime_checkable
class RanksItems(Protocol):
    """A task whose metrics tell how an item is ranked among all that a user might want."""

    def ranks(self, scores: Tensor, batch: Batch, final: bool) -> Outputs:
        """What its metrics read of ``scores`` (batch, items), whoever gave them.

        So other models are measured as the task is. What the user is known to have does not count.
        """


@runtime_checkable
class Paints(Protocol):
    """A task whose answers can be seen in the images that it was asked about."""

    def paint(self, batch: Batch, predictions: Mapping[str, Tensor]) -> list[dict[str, Painted]]:
        """For each example what to write: under ``""`` the painted image, others by a suffix.

        ``predictions`` are columns as :meth:`Predicts.predict` returned them for ``batch``, both on
        the CPU.
        """


class AttentionMap(NamedTuple):
    """How much each token that was written attends to each that was ``read``.

    ``weights`` (written, read) of float32, on the CPU; a row sums to 1.
    """

    read: Sequence[str]
    written: Sequence[str]
    weights: Tensor


@runtime_checkable
class Attends(Protocol):
    """A task whose answers are sequences that attend to what was read."""

    def attention(self, batch: Batch, predictions: Mapping[str, Tensor]) -> Sequence[AttentionMap]:
        """A map for each example of ``batch``, and what :meth:`Predicts.predict` said of it."""


@runtime_checkable
class FindsByScore(Protocol):
    """A task that predicts any number of objects of an example, those that are sure enough."""

    def require_score(self, least: float) -> None:
        """Predict what has at least this score from now on.

        Raises ``ValueError`` for a score that the task does not look at.
        """


@runtime_checkable
class PaintsAs(Protocol):
    """A task that predicts images in a style, which is that of an image."""

    def paint_as(self, pixels: Tensor) -> None:
        """Predict in the style of ``pixels`` (3, height, width) of 0..1 from now on."""


class Predicting(nn.Module):
    """The predictions of ``task`` as a network of their own: columns called ``names`` to them."""

    def __init__(self, task: Predicts, names: Sequence[str]) -> None:
        super().__init__()
        self.task, self.names = task, list(names)

    def forward(self, *columns: Tensor) -> Predictions:
        """What the task predicts of a batch of ``columns``."""
        return self.task.predict(dict(zip(self.names, columns, strict=True)))


class Exportable(NamedTuple):
    """A network that can be used without dltrain, and a batch to compare it on.

    It takes the columns of such a batch in order, any number of rows, and returns
    :class:`Predictions`. ``about`` is what whoever uses it has to know of an input, for JSON.
    """

    network: nn.Module
    batch: Batch
    about: Mapping[str, Mapping[str, Any]] = {}


@runtime_checkable
class Exports(Protocol):
    """A task that has other networks to be used without dltrain than what it predicts."""

    def exports(self, examples: Batch) -> Mapping[str, Exportable]:
        """Networks by name, the chief one first.

        ``examples`` are the inputs of some real examples. What the run's reader does with tensors
        is put before a network whose batch is ``examples`` itself.
        """


@runtime_checkable
class Samples(Protocol):
    """A task that makes new examples.

    It sees to eval mode itself and draws from a generator of its own: mode and global random state
    stay as they are. The same arguments give the same examples.
    """

    def sample(self, count: int, seed: int) -> Predictions:
        """``count`` examples."""


@runtime_checkable
class SamplesText(Protocol):
    """A task that writes texts; as :class:`Samples`, by tokens."""

    def sample_text(
        self,
        count: int,
        seed: int,
        length: int,
        prompt: Sequence[int] = (),
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Predictions:
        """A column ``text`` (count, time) of tokens: those of ``prompt`` and ``length`` more.

        ``temperature`` 0 takes the likeliest token each time, 1 draws by the network's own
        probabilities; ``top_k`` draws of so many likeliest tokens alone, ``top_p`` of those that
        together have that probability. Raises ``ValueError`` for what is out of bounds.
        """


@runtime_checkable
class SamplesImages(Protocol):
    """A task that generates images: a column ``image`` (n, channels, height, width) of 0..1.

    Both methods are as :meth:`Samples.sample`.
    """

    @property
    def conditional(self) -> bool:
        """Whether images of a class can be asked for."""

    def sample(self, count: int, seed: int, labels: Tensor | None = None) -> Predictions:
        """``count`` images; of the classes ``labels`` (count,) where the task is conditional.

        Without ``labels`` a conditional task takes its classes in turn. Raises ``ValueError`` for
        labels where it is not conditional, or that it has no class for.
        """

    def interpolate(self, rows: int, steps: int, seed: int) -> Predictions:
        """``rows * steps`` images, row by row: on the way between two latent points each."""
