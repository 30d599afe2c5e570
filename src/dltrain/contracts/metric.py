"""How a split is evaluated: outputs batch by batch, then one evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from torch import Tensor

from dltrain.contracts.data import Batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from typing_extensions import Self

Outputs = dict[str, Tensor]
"""What a task says of a batch: named columns, a row an example, on the device."""


Mode = Literal["min", "max"]
"""Whether less of a metric is better, or more."""


@dataclass(frozen=True)
class Table:
    """Rows to print, and to write as csv."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str | int | float]]


class Scores(NamedTuple):
    """Of one class: its probability for each example (n,), and which are of it (n,), bool."""

    probability: Tensor
    positive: Tensor


class Sound(NamedTuple):
    """``samples`` (time,) int16 to hear, ``rate`` of them a second."""

    samples: Tensor
    rate: int


@dataclass(frozen=True)
class Evaluation:
    """What is known of a whole split.

    ``scalars`` are exact over the split and go to every log. ``tables``, ``texts`` and ``figures``
    are what a user wants to look at; figures are functions, so that nothing is drawn (and
    matplotlib not imported) unless somebody asks. So are ``scores`` by class, of which
    precision-recall curves are made. ``sounds`` are for whoever can play them.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    tables: dict[str, Table] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    figures: dict[str, Callable[[], Figure]] = field(default_factory=dict)
    scores: dict[str, Callable[[], Scores]] = field(default_factory=dict)
    sounds: dict[str, Sound] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    """Of scalars that are plain means: over how many values. Such a mean has a value for every
    network that is sound: one that is not finite though it has a weight says that the run has
    diverged. A scalar without a weight may be undefined on some data."""
    signatures: dict[str, str] = field(default_factory=dict)
    """Of scalars that others can compare only if they know how they were computed: what says so,
    such as sacrebleu's signature of BLEU."""
    warnings: Sequence[str] = ()
    """What the user must hear of, one sentence each."""

    def __or__(self, other: Evaluation) -> Evaluation:
        """Both together; where they share a name, ``other`` wins."""
        return Evaluation(
            scalars={**self.scalars, **other.scalars},
            tables={**self.tables, **other.tables},
            texts={**self.texts, **other.texts},
            figures={**self.figures, **other.figures},
            scores={**self.scores, **other.scores},
            sounds={**self.sounds, **other.sounds},
            weights={**self.weights, **other.weights},
            signatures={**self.signatures, **other.signatures},
            warnings=[*self.warnings, *other.warnings],
        )


class Metric(ABC):
    """Gathers what it needs of a split, batch by batch, and says what comes of it.

    Most need sums; one that needs every score keeps every score. What is gathered stays on the
    device until :meth:`compute`. ``merge`` of the halves of a split gives what the whole gives.
    """

    names: Sequence[str] = ()
    """The scalars that :meth:`compute` returns."""
    better: Mapping[str, Mode] = MappingProxyType({"loss": "min"})
    """Of its scalars those of which it is known which way is better: a run may be monitored by
    them."""

    @abstractmethod
    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Take in a batch: what the task predicted, what is true, and which examples (batch,)."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Take in what ``other``, of the same kind, has gathered on other batches."""

    @abstractmethod
    def compute(self) -> Evaluation:
        """What comes of all that was gathered, which is at least one batch.

        It runs as an evaluation step does, on every rank: it may ask the network.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What was gathered: tensors, and primitives and lists of them."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take the place of one that gathered ``state``."""
