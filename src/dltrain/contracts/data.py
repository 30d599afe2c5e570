"""What the data is, and where batches come from."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from dltrain.contracts.preprocessing import Preprocessing
from dltrain.errors import UserError

Batch = dict[str, Tensor]
"""Columns of one batch by field, a row an example, on the training device.

A ragged field is padded on the right with its ``fill``, and ``<name>_length`` (batch,) stands
beside it.
"""
EXTENT = "extent"
"""The column (batch, 2) of evaluated images of several sizes: how many rows and columns are image.

The rest, below and on the right, is padding: what is asked of a network is asked without it.
"""

RARE = 100
"""Tokens of the training split to each of the vocabulary, below which they are rare."""

Kind = Literal[
    "image", "mask", "boxes", "tokens", "class", "labels", "number", "audio", "category", "time"
]
Role = Literal["input", "target", "action", "other"]


@dataclass(frozen=True)
class Field:
    """One column of the data: what its values are, and what they mean.

    ``shape`` is that of one example, without the batch; None where it varies (ragged), or is not
    known yet. ``size`` counts the classes or the vocabulary, ``names`` names classes, tokens or
    features, ``counts`` is how often the training split has each of them. ``fill`` pads a ragged
    field. A field of kind ``labels`` has one number for each of ``names``: 1 where the example has
    that label, else 0. A field of kind ``mask`` has a number a pixel of the images it belongs to:
    as a target, a class, whose ``counts`` are of pixels; ``fill`` is what pixels of no class have,
    which count for nothing, and those beyond the border. ``colors`` are the classes' red, green and
    blue, 0..255, where the data has some. ``mean`` and ``std`` (one number for all, or one a
    channel or feature) are those of the training split. An input comes normalized by them; a target
    comes in its own unit, and a task that learns it at mean 0 and std 1 brings its predictions
    back. ``transform`` is what it learns in the place of the target: its logarithm (``log1p``: of 1
    and it); mean and std are then of that. A field of kind ``audio`` has the samples of a sound
    (time,) or, as an input, frames of features (time, features); ``rate`` is how many samples or
    frames a second. A field of kind ``category`` has one of ``size`` values by its number, which a
    network embeds: a user, an item, a city; 0 is what the training split did not have, and
    ``names`` names them all, 0 included. A field of kind ``time`` has points in time, int64:
    microseconds since 1970, in UTC. Of series over time, ``period`` is after how many steps values
    come back: the hours of a day, say. ``low`` and ``high`` are the least and the greatest value
    that a number has, where it is known to have no other: one for all, or one a component. A field
    of role ``action`` is no column of the data: it is what an environment asks for, a class or
    numbers between ``low`` and ``high``.
    """

    shape: tuple[int | None, ...]
    kind: Kind
    role: Role = "other"
    size: int | None = None
    names: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    fill: int | float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    transform: Literal["log", "log1p"] | None = None
    colors: tuple[tuple[int, ...], ...] = ()
    rate: float | None = None
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    period: int | None = None

    def __post_init__(self) -> None:
        """Lists, as JSON has them, become tuples."""
        for name in ("shape", "names", "counts", "mean", "std", "low", "high"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "colors", tuple(map(tuple, self.colors)))
        assert self.kind in get_args(Kind), self.kind
        assert self.role in get_args(Role), self.role
        assert len(self.low) == len(self.high), (self.low, self.high)
        sides = [side for side in (*self.shape, self.size) if side is not None]
        assert all(isinstance(side, int) and side >= 0 for side in sides), sides

    @property
    def rare(self) -> bool:
        """Whether the training split has fewer than ``RARE`` of each token, on average.

        Little is learned of most of them, and a network memorizes such texts.
        """
        return bool(self.counts) and sum(self.counts) < RARE * len(self.counts)

    @property
    def frequencies(self) -> list[float]:
        """``counts`` as fractions of their sum."""
        total = sum(self.counts)
        return [count / total for count in self.counts]


@dataclass(frozen=True)
class DataSpec:
    """The fields of the data by name. The run keeps it as ``data.json``.

    A constructor's parameter that is annotated ``DataSpec`` is given it. Beyond that four facts are
    filled by name, where a constructor asks for them without a default: ``input_shape``,
    ``outputs``, ``vocabulary_size`` and ``pad_index``.
    """

    fields: Mapping[str, Field]
    complete: bool = True
    """False in an outline of which reading the data will tell more: fields, sizes, shapes."""

    @property
    def input(self) -> Field:
        """The one field of role ``input``. Raises ValueError where there is none, or several."""
        return self._only("input")

    @property
    def target(self) -> Field:
        """The one field of role ``target``. Raises ValueError where there is none, or several."""
        return self._only("target")

    @property
    def action(self) -> Field:
        """What an environment asks for. Raises ValueError where this data is none."""
        if not self.of("action"):
            raise ValueError(
                "this learns by acting in an environment, as data=gym is, and this data is none"
            )
        return self._only("action")

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the classes of the target are called; empty where it is no class."""
        targets = self.of("target")
        return targets[0].names if len(targets) == 1 and targets[0].kind == "class" else ()

    def of(self, role: Role) -> list[Field]:
        """The fields of a role, in order."""
        return [field for field in self.fields.values() if field.role == role]

    def inputs(self, batch: Batch) -> list[Tensor]:
        """The columns of the fields of role ``input``, in order: what a network is called with.

        Frames of a sound are followed by their ``<name>_length``: nothing in them tells padding.
        """
        found = []
        for name, field in self.fields.items():
            if field.role == "input":
                found.append(batch[name])
                if field.kind == "audio":
                    found.append(batch[f"{name}_length"])
        return found

    def facts(self) -> dict[str, Any]:
        """What is filled in by name."""
        found: dict[str, Any] = {}
        inputs, targets = self.of("input"), [*self.of("target"), *self.of("action")]
        if len(inputs) == 1 and inputs[0].kind == "tokens":
            found |= {"vocabulary_size": inputs[0].size, "pad_index": inputs[0].fill}
        elif len(inputs) == 1 and None not in inputs[0].shape:
            found["input_shape"] = inputs[0].shape
        if len(targets) == 1:
            (target,) = targets
            if target.kind in ("class", "mask", "tokens"):
                found["outputs"] = target.size
            elif None not in target.shape:
                found["outputs"] = math.prod(side for side in target.shape if side is not None)
        return {name: value for name, value in found.items() if value is not None}

    def pending(self) -> frozenset[str]:
        """Which of :meth:`facts` may still be told, once the data is read."""
        if self.complete:
            return frozenset()
        names = {"outputs"}
        inputs = self.of("input")
        # Of several inputs no fact is told.
        if not inputs or [field.kind for field in inputs] == ["tokens"]:
            names |= {"vocabulary_size", "pad_index"}
        if not inputs or (len(inputs) == 1 and inputs[0].kind != "tokens"):
            names.add("input_shape")
        return frozenset(names - self.facts().keys())

    def to_json(self) -> dict[str, Any]:
        """Lists, texts and numbers, for ``json.dumps``."""
        return {"fields": {name: asdict(field) for name, field in self.fields.items()}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> DataSpec:
        """What :meth:`to_json` returned."""
        return cls({name: Field(**field) for name, field in content["fields"].items()})

    def _only(self, role: Role) -> Field:
        found = self.of(role)
        if len(found) != 1:
            names = ", ".join(n for n, field in self.fields.items() if field.role == role)
            if role == "target" and self.of("action"):
                raise ValueError(
                    "this learns from targets, and an environment has none: model=dqn, ppo and "
                    "reinforce learn by acting in it"
                )
            raise ValueError(f"this needs one {role}, and this data has {names or 'none'}")
        return found[0]


class Draw(Protocol):
    """All that randomness may depend on, besides the batch: in augmentation and in evaluation.

    An augmentation that draws from ``generator`` alone, or computes from ``seed``, ``epoch`` and
    ``rows``, is the same however the run was interrupted and on however many devices it runs.
    """

    seed: int
    """The run's."""
    epoch: int
    """Counted from 0."""
    final: bool
    """Whether this is the test split, at the end of the run."""

    @property
    def rows(self) -> Tensor:
        """(batch,): the batch's examples, as positions in their split."""

    @property
    def generator(self) -> torch.Generator:
        """Seeded by the place of the batch. In training on the device, in evaluation on the CPU."""


class Augment(ABC):
    """Random changes of training examples, which a source takes and a config nests in it."""

    def check(self, fields: Mapping[str, Field]) -> None:
        """Raise :class:`ValueError` where a field cannot be changed as is asked."""
        return None

    @abstractmethod
    def __call__(self, batch: Batch, draw: Draw, fields: Mapping[str, Field]) -> Batch:
        """The whole batch, changed: masks and boxes move with the images they belong to."""


class Stream(ABC):
    """Batches already on the device, in an order that depends on ``(seed, epoch)`` alone.

    On every rank there are as many batches, and none is empty. A batch is asked for after the step
    on the one before it is done.
    """

    divided: bool = False
    """Whether each rank's batches are rows of its own, of data that is divided as it is read
    (:class:`Placement`): as many batches on every rank; :meth:`whole` tells what they weigh. Other
    streams are the same on all ranks, each of which takes its rows of a batch."""

    @property
    @abstractmethod
    def steps_per_epoch(self) -> int | None:
        """Batches in an epoch. None: it never ends, and everything is counted in steps."""

    @property
    def examples(self) -> int | None:
        """Examples in an epoch, where that is known."""
        return None

    @property
    def smallest_batch(self) -> int | None:
        """Examples in the smallest batch of any epoch, where that is known."""
        return None

    @abstractmethod
    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch ``epoch`` (from 0) from number ``start`` on, augmented."""

    def plain(self) -> Iterator[Batch]:
        """The batches of epoch 0 as they are without augmentation."""
        return self.batches(0)

    def dealt(self, rank: int, world: int) -> Iterator[tuple[int, Batch]]:
        """Every ``world``-th batch of :meth:`plain` from number ``rank`` on, with its number.

        What has no example that can be read is left out, there as here, and keeps its number.
        """
        found = enumerate(self.plain())
        return found if self.divided else islice(found, rank, None, world)

    def first(self) -> Batch:
        """A batch to look at, of the columns that a network reads: that of epoch 0 as it is."""
        return next(iter(self.plain()))

    @abstractmethod
    def rows(self, epoch: int, position: int) -> Tensor:
        """Which examples make up batch number ``position``, as positions in the split."""

    def whole(self, epoch: int, position: int) -> int | None:
        """Examples of batch number ``position`` on all ranks together, where it is divided.

        None: that is not known here, and ranks tell each other how many they have.
        """
        return None

    def scalars(self) -> Mapping[str, float]:
        """What it has to show of itself so far, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What ``(seed, epoch, position)`` do not tell: of what was handed out, not read ahead."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        return None


Streams = Mapping[str, Stream]
"""``train``, and whatever else there is: ``validation`` and ``test`` are evaluated."""


@dataclass(frozen=True)
class Placement:
    """Where a source is to put its batches, and by which seed it draws.

    ``task`` is who is trained or evaluated on them: data that comes of acting asks it what to do.
    Of the ``world_size`` processes that train one run this is number ``rank``, from 0: a source may
    give each other examples (:attr:`Stream.divided`), and need not.
    """

    device: torch.device
    seed: int
    task: nn.Module | None = None
    rank: int = 0
    world_size: int = 1


class Reader(ABC):
    """Turns new examples into batches, as those of the run were made.

    It is all that a prediction needs of the data: the run folder keeps its :meth:`node`, from
    which it is built again without the source.
    """

    example: str = "example"
    """What one example is called, in the head of a column: ``image``, ``text``, ``row``."""
    columns: Sequence[str] = ()
    """The columns that it reads, of an example that is a row of a table."""
    file_columns: Sequence[str] = ()
    """Those of them whose cells are files: a path, or a file's content as bytes."""
    at_once: int | None = None
    """How many examples :meth:`read` takes at most, such as images of different sizes: one."""

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """Examples one by one, of ``inputs`` as a person has them.

        An input is an example, or something that holds many: a path of a file or a folder, a
        pattern of them, an open text file, a data frame. Raises :class:`ValueError` or OSError for
        what cannot be opened.
        """
        yield from inputs

    @abstractmethod
    def read(self, examples: Sequence[Any]) -> Batch:
        """The examples as one batch on the CPU, without targets.

        What an example is, the class tells: a path or an array, a text, a mapping from column to
        cell. Raises :class:`ValueError` naming the first that is not one.
        """

    @abstractmethod
    def node(self, folder: Path) -> dict[str, Any]:
        """The config node that builds it again; what is large is written into ``folder``.

        Its constructor is given ``folder`` where it asks for it.
        """

    def at_own_size(self) -> Reader:
        """What reads the same examples at their own size; where they have none, this one.

        For tasks that answer of any size (:attr:`~dltrain.contracts.task.Task.any_size`).
        """
        return self

    def preprocessing(self) -> Preprocessing | None:
        """What :meth:`read` does, for a network that is used without dltrain.

        None: nobody can tell; such a network takes batches as :meth:`read` makes them.
        """
        return None


@runtime_checkable
class KnowsUsers(Protocol):
    """A reader of users and items: who is meant, what they have, what items are called.

    Numbers are those of the data's spec.
    """

    def user(self, name: str) -> int:
        """The number of a user; 0, which is told, for one that training did not have."""

    def known(self, user: int) -> Sequence[int]:
        """The items that a user has already."""

    def titled(self, items: Sequence[int]) -> Sequence[str]:
        """What items are called; empty where no file has named any."""


class Labeled(NamedTuple):
    """Some examples as a :class:`Reader` takes them, and the column ``target`` of them."""

    examples: Sequence[Any]
    target: Tensor


class Source(ABC):
    """Where examples come from. Constructing one reads nothing but its arguments."""

    target_needed: bool = True
    """Whether the task learns from a target; set before :meth:`read`. Data that may be had with or
    without one is refused where it is needed."""
    any_size: bool = False
    """Whether the task takes images of any size; set before :meth:`read`. A size that nobody gave
    may then be chosen."""

    @abstractmethod
    def outline(self) -> DataSpec:
        """What is known of the data without reading it; sizes may be missing.

        Enough to refuse a network for images on texts.
        """

    @abstractmethod
    def read(self, seed: int) -> DataSpec:
        """Read the data, downloading it where it is missing; return all there is to know of it.

        What is learned from it, it learns from the training rows of ``seed`` alone. Raises
        :class:`ValueError` or :class:`~dltrain.errors.UserError` where it cannot be had or used.
        """

    @abstractmethod
    def open(self, placement: Placement) -> Streams:
        """One stream a split, after :meth:`read`. Only ``train`` is required."""

    def reader(self) -> Reader | None:
        """What reads new examples, after :meth:`read`; None where there are none to be had."""
        return None

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """The examples of a split (None: of all), part by part, after :meth:`read`.

        By them the run of another data set is evaluated on this one: its own reader reads them, and
        the target is as this one's spec says. Raises :class:`~dltrain.errors.UserError` where there
        are none to be had, or no such split.
        """
        raise UserError(f"data: {type(self).__name__} has no examples that another run could read.")

    def identity(self) -> Mapping[str, Any]:
        """What tells these examples from others, after :meth:`read`, for ``json.dumps``.

        The run keeps it, and is not resumed on data of another identity. Under ``files`` may stand
        what explains a difference and is none by itself. Empty: nobody can tell.
        """
        return {}

    def report(self) -> Sequence[Mapping[str, Any]]:
        """What was read, after :meth:`read`: a line for each column, class or file, say.

        The run keeps it as ``tables/data.csv``; a line may lack what others have.
        """
        return ()


EVALUATION_SEED = 0
"""Of all noise in an evaluation: it is the same each time, whatever the run's seed and epoch."""


def epoch_seed(seed: int, epoch: int) -> int:
    """A 62-bit seed, far from that of every other epoch, so that no two draws share a stream."""
    mixed = 0
    for number in (seed, epoch):
        # splitmix64 (Steele, Lea and Flood 2014)
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        mixed ^= mixed >> 31
    return mixed >> 2


def position_seed(seed: int, epoch: int, position: int) -> int:
    """The seed of all that is drawn for batch number ``position`` of an epoch."""
    return epoch_seed(seed, epoch) + position + 1
