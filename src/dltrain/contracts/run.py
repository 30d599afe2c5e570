"""What acts on weights besides the optimizer, what orders a run, and what watches it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Streams
from dltrain.contracts.metric import Evaluation, Mode
from dltrain.contracts.task import Metrics, Monitor, Phase, Task
from dltrain.errors import require_at_least


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
        require_at_least(
            0,
            warmup_steps=warmup_steps,
            warmup_epochs=warmup_epochs,
            warmup_percent=warmup_percent,
        )
        if warmup_percent > 100:
            raise ValueError(f"warmup_percent must be at most 100 per cent, got {warmup_percent}")
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
    """A penalty on weights; never on biases or norm scales. By default it costs nothing."""

    weight_decay: float = 0.0
    """The part that is exactly ``weight_decay/2 * ||w||^2``; it rides in the optimizer's own
    weight decay where that adds ``weight_decay * w`` to the gradient, else is a penalty."""

    def penalty(self, weights: Sequence[Tensor]) -> Tensor | None:
        """A 0-d tensor added to the loss of every step, or None."""
        return None


class Group(NamedTuple):
    """A group of parameters that one optimizer steps."""

    parameters: Sequence[nn.Parameter]
    weights: Sequence[nn.Parameter]
    """Those that decay and limits may touch: no biases, nothing of a norm."""


class Modifier:
    """Whatever touches weights besides the optimizer: averages, limits, pruning, freezing.

    Several act in the config's order. Each method defaults to nothing.
    """

    replayable: bool = True
    """Whether :meth:`after_update` decides nothing in Python by what was before, so that a CUDA
    graph may replay it."""

    freezes: bool = False
    """Whether parameters may be without gradients at first, and have them later."""

    limits: bool = False
    """Whether :meth:`evaluation_weights` restricts whatever weights others put in their place."""

    def attach(self, task: Task) -> None:
        """Change the structure of ``task``, or look at it: when a run is built or loaded.

        Before weights are loaded, moved to the device, grouped or compiled.
        """

    def start(self, groups: Mapping[str, Group]) -> None:
        """Training is about to begin: make tensors of one's own, where the parameters lie."""

    def before_step(self, progress: Progress) -> None:
        """Step ``progress.step``, counted from 0, is about to be made, in training mode.

        A modifier that decides something here is not ``replayable``.
        """

    def after_update(self, name: str) -> None:
        """The optimizer has stepped the group ``name``; without gradients.

        Counts belong on the device, for a CUDA graph replays this.
        """

    def begin_phase(self, phase: Phase) -> None:
        """A phase begins, once: its first step is to come. An interruption begins none."""

    def end_phase(self, phase: Phase) -> None:
        """A phase is over, once: its last gradients are stepped, its evaluation is to come."""

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """While inside, the task has the weights that it is evaluated and used with."""
        yield

    @property
    def settled(self) -> bool:
        """Whether an evaluation may be the run's best now: the weights are as they are to be."""
        return True

    def scalars(self) -> Mapping[str, float]:
        """What every log and evaluation shows of it, by name. It may wait for the device."""
        return {}

    def finish(self, task: Task) -> None:
        """A run was loaded, with its evaluation weights: leave ``task`` as it is to be used.

        What :meth:`attach` put in goes, as far as only training needs it.
        """

    def state_dict(self) -> dict[str, Any]:
        """Tensors and primitives only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""


@contextmanager
def evaluation_weights(modifiers: Sequence[Modifier]) -> Iterator[None]:
    """While inside, the weights are as all of ``modifiers`` have them for an evaluation.

    Those that limit come after those that replace, in whatever order they were given.
    """
    with ExitStack() as stack:
        for modifier in sorted(modifiers, key=lambda one: one.limits):
            stack.enter_context(modifier.evaluation_weights())
        yield


class Plan(ABC):
    """The order of a run's phases. There is one global step; it knows them all from it.

    What else a run of such phases needs, it has itself: ``modifiers`` and ``regularizers`` come
    before those of the config.
    """

    modifiers: Sequence[Modifier] = ()
    regularizers: Sequence[Regularizer] = ()

    def check(self, task: Task) -> None:
        """Raise :class:`ValueError` for a task that cannot be trained in such phases."""
        return None

    def streams(self, streams: Streams) -> Streams:
        """What the phases train on, made of what the source has opened.

        Raises :class:`ValueError` where it cannot be.
        """
        return streams

    @abstractmethod
    def phases(self, steps: int, steps_per_epoch: Mapping[str, int | None]) -> Sequence[Phase]:
        """The phases of a run of ``steps`` steps, in order. Their steps sum to ``steps``.

        ``steps_per_epoch`` is by stream. Raises :class:`ValueError` where that is impossible.
        """

    def step(self, config: Mapping[str, Any], task: Task) -> Callable[[Batch], Metrics] | None:
        """What is done with each batch in place of ``task.train_step``; None: nothing else.

        ``config`` is the run's, from which other processes can build the same parts. Raises
        :class:`~dltrain.errors.ConfigError` where its other parts do not go with the plan.
        """
        return None

    def close(self) -> None:
        """The run is over, however it ended: let go of what :meth:`step` has begun."""
        return None


class Progress(Protocol):
    """How far a run is."""

    @property
    def step(self) -> int:
        """Batches trained on so far."""

    @property
    def max_steps(self) -> int:
        """Batches that the whole run trains on."""

    @property
    def epoch(self) -> int:
        """Epochs completed."""

    @property
    def steps_per_epoch(self) -> int | None:
        """None where the data never ends."""

    @property
    def samples(self) -> int:
        """Examples trained on so far."""

    @property
    def samples_per_second(self) -> float:
        """Training throughput over the last ``log_every`` steps, evaluation left out."""


@dataclass(frozen=True)
class Logged:
    """What one callback has for all the others to show, at the step that is now."""

    scalars: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, Tensor] = field(default_factory=dict)
    """Values of any shape, all finite."""
    images: Mapping[str, bytes] = field(default_factory=dict)
    """PNG files."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Markdown."""


class View(Protocol):
    """What a callback sees of a run, and may do. It changes nothing that is trained."""

    @property
    def path(self) -> Path:
        """The run folder."""

    @property
    def progress(self) -> Progress:
        """How far the run is; it goes on by itself."""

    @property
    def results(self) -> Mapping[str, Mapping[str, float]]:
        """The latest scalars of each split."""

    @property
    def latest(self) -> Mapping[str, float]:
        """The training means that were logged last."""

    @property
    def monitor(self) -> Monitor:
        """The task's."""

    @property
    def splits(self) -> Mapping[str, int | None]:
        """The number of examples of each split."""

    @property
    def seconds(self) -> Mapping[str, float]:
        """Spent on ``setup``, ``train`` and ``evaluate``."""

    @property
    def rates(self) -> dict[str, float]:
        """Throughput in other units than examples, by unit; callbacks put it here."""

    @property
    def device(self) -> str:
        """Where the run trains."""

    @property
    def precision(self) -> str:
        """In what."""

    @property
    def resumed(self) -> bool:
        """Whether the run goes on from a checkpoint, whose state callbacks are given."""

    @property
    def stop_reason(self) -> str:
        """Why the run ends early; empty where it does not."""

    def write(self, name: str, content: bytes | str, sync: bool = True) -> None:
        """Write a file of the run folder, whole or not at all.

        Without ``sync``, it is safe from a power cut once the run has finished: for what is written
        again and again.
        """

    def log(self, logged: Logged) -> None:
        """Have every callback's :meth:`Callback.logged` called with it."""

    def stop(self, reason: str) -> None:
        """Ask for an early, regular end: the test split is still evaluated."""


@dataclass(frozen=True)
class Setup:
    """What is known of a run before it begins."""

    spec: DataSpec
    splits: frozenset[str]
    metrics: Sequence[str]
    """The scalars of an evaluation of the validation split."""
    groups: Sequence[str]
    """The names of the task's parameter groups."""
    better: Mapping[str, Mode] = field(default_factory=dict)
    """Of those scalars which way is better, where that is known."""


class Callback:
    """Watches a run, from the main process alone. It changes no weight.

    Every hook defaults to nothing. ``state_dict`` travels in the checkpoint, so that a resumed
    run's callbacks go on where they were. What the user must hear of goes to the logger
    ``dltrain``.
    """

    def check(self, setup: Setup) -> None:
        """Raise :class:`UserError` where the run cannot give what is needed; no folder yet."""

    def start(self, view: View) -> None:
        """Before the first step, of a new run or a resumed one; state is loaded after it."""

    def log(self, view: View, values: Mapping[str, float]) -> None:
        """Means of the training metrics over the last ``log_every`` steps."""

    def logged(self, view: View, logged: Logged) -> None:
        """Another callback has something to show."""

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """A split was evaluated: ``train`` (means since the last time), ``validation``, ``test``.

        ``train`` comes first, once a period, in every run.
        """

    def reevaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """``split`` was evaluated once more, with the best weights, which the run is used with.

        It was told of before, at the step of those weights: this is no new point of a curve.
        """

    def end(self, view: View, status: str) -> None:
        """The run is ``finished``, ``interrupted`` or ``failed``."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and primitives only."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""


class Probe(Callback):
    """A callback that asks the network, on every rank.

    Around its three methods the loop sees to eval mode, evaluation weights, no gradients, full
    precision (no autocast), and leaves the random generators as they were.
    """

    names: Sequence[str] = ()
    """The scalars that it adds to the evaluation of the validation split."""
    better: Mapping[str, Mode] = MappingProxyType({})
    """Of these which way is better, where that is known."""

    def begin(self, task: Task, streams: Streams, view: View) -> None:
        """Before the first step, of a new run or a resumed one; after :meth:`Callback.start`."""

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """What to add to the evaluation of ``split``, before anyone is told of it.

        ``train`` stands for a period of training that is over.
        """
        return Evaluation()

    def finish(self, task: Task, streams: Streams, view: View) -> None:
        """Before :meth:`Callback.end`, unless the run failed."""
