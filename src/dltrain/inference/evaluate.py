"""What a trained run is worth: its metrics on a split of its own data, or of another data set."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dltrain.assemble import Assembly
from dltrain.config import compose as composition
from dltrain.config.build import plan
from dltrain.config.paths import absolute
from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import (
    Batch,
    DataSpec,
    Field,
    Labeled,
    Placement,
    Reader,
    Source,
    Stream,
)
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.pieces import UNKNOWN
from dltrain.core.evaluate import evaluate
from dltrain.core.settings import Settings
from dltrain.data.kept import IDENTITY, KeptData, identity_of
from dltrain.engine.eval_mode import eval_mode
from dltrain.engine.precision import autocast
from dltrain.errors import ConfigError, Fault, UserError
from dltrain.inference.attacked import attacked
from dltrain.inference.beside import open_beside
from dltrain.runs.folder import SUMMARY, RunFolder
from dltrain.runs.load import (
    SPEC,
    Loaded,
    allowed_packages,
    load_run,
    read_config,
    reader_of_run,
    spec_of_run,
)

logger = logging.getLogger(__name__)

TEST, VALIDATION = "test", "validation"
ALL = "all"


@dataclass(frozen=True)
class Evaluated:
    """An evaluation, and of what: the split, of which data, how many examples, which weights."""

    split: str
    data: str
    examples: int
    weights: str
    evaluation: Evaluation


class OtherData(NamedTuple):
    """The config of a data set that is not the run's own."""

    config: Mapping[str, Any]
    packages: frozenset[str] | None
    """Where its classes may come from; None: anywhere, for the user has typed what it is."""


def evaluate_run(
    folder: RunFolder,
    split: str | None = None,
    other: OtherData | None = None,
    weights: str | None = None,
    device: str | None = None,
    skip_unknown: bool = False,
    changed_data: bool = False,
    attack: Mapping[str, Any] | None = None,
) -> Evaluated:
    """Evaluate a run, in eval mode, with its own precision and batches.

    ``split`` is one of the data's, ``all`` or None: the test split, or else the validation split.
    ``other`` is the config of another data set; its examples are read as the run's own were, and
    its classes go by their names. One that the run does not know is refused or, with
    ``skip_unknown``, its examples are left out and counted. ``weights`` and ``device`` None are
    those that the run was tested with and on; ``changed_data`` is as for :func:`resume`. With
    ``attack``, a config node, the inputs are changed to mislead the network.

    Raises :class:`UserError` where that is impossible.
    """
    config = dict(read_config(folder))
    if device is not None:
        config["device"] = device
    loaded = load_run(folder, weights)
    spec = spec_of_run(folder)
    if other is None:
        return _own(folder, config, loaded, split, changed_data, attack)
    with Assembly(config, allowed_packages()) as assembly:
        settings = assembly.settings
        source = plan(other.config, Source, "data", packages=other.packages).make()
        try:
            with _no_word_of_training():
                found = source.read(config["seed"])
        except ValueError as error:
            raise error if isinstance(error, UserError) else UserError(f"data: {error}") from error
        if identity_of(source) == folder.read_json(SPEC).get(IDENTITY):
            config["data"] = other.config  # the same examples, in another place or other batches
            return _own(folder, config, loaded, split, changed_data, attack)
        name = split or TEST
        reader = reader_of_run(folder.path)
        targets = Targets(found, spec, skip_unknown)
        parts = source.labeled(None if name == ALL else name)
        stream = Read(parts, reader, targets, settings)
        asked = stream if attack is None else attacked(stream, loaded.task, spec, attack)
        result = _evaluated(loaded, asked, settings, config["seed"], _epochs(folder), final=True)
    targets.tell()
    return Evaluated(name, _named(other.config), stream.count, loaded.weights, result)


@contextlib.contextmanager
def _no_word_of_training() -> Iterator[None]:
    """Keep back what a source says of how it would be trained on: nobody does that here."""
    told = logging.getLogger("dltrain.data"), logging.getLogger("dltrain.data.tables.columns")
    levels = [logger.level for logger in told]
    told[0].setLevel(logging.WARNING)
    told[1].setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(told, levels, strict=True):
            logger.setLevel(level)


def _own(
    folder: RunFolder,
    config: Mapping[str, Any],
    loaded: Loaded,
    split: str | None,
    changed: bool,
    attack: Mapping[str, Any] | None,
) -> Evaluated:
    identity = folder.read_json(SPEC).get(IDENTITY, {})
    kept = KeptData(folder.path, spec_of_run(folder), identity, changed, "evaluate")
    try:
        with Assembly(config, allowed_packages()) as assembly:
            parts = assembly.read(kept)
            settings = parts.settings
            streams = parts.source.open(Placement(settings.device, config["seed"], loaded.task))
            name = split or (TEST if TEST in streams else VALIDATION)
            names = [one for one in streams if name in (one, ALL)]
            if not names:
                has = ", ".join(streams)
                raise UserError(f"--split: this data has no {name} split, but {has}.")
            stream = streams[names[0]] if len(names) == 1 else Chained([streams[n] for n in names])
            if attack is not None:
                stream = attacked(stream, loaded.task, parts.spec, attack)
            open_beside(loaded.task, folder, config, settings.device)
            loaded.task.to(settings.device).opened(streams)
            result = _evaluated(
                loaded, stream, settings, config["seed"], _epochs(folder), final=name == TEST
            )
            examples = sum(streams[one].examples or 0 for one in names)
    except ConfigError as error:
        raise UserError(f"{folder.path}: {error}") from error
    return Evaluated(name, _named(config["data"]), examples, loaded.weights, result)


def _evaluated(
    loaded: Loaded, stream: Stream, settings: Settings, seed: int, epoch: int, final: bool
) -> Evaluation:
    """As the loop evaluates a split."""
    task: Any = loaded.task
    task.to(settings.device, memory_format=settings.memory_format)
    reduced = autocast(settings.precision, settings.device)
    with eval_mode(task), torch.inference_mode(), reduced:
        found = evaluate(task, stream, seed=seed, epoch=epoch, final=final)
    scalars = {name: v if isinstance(v, int) else float(v) for name, v in found.scalars.items()}
    return replace(found, scalars=scalars)


def _epochs(folder: RunFolder) -> int:
    """How many the run has trained, which its evaluation may depend on."""
    if not (folder.path / SUMMARY).is_file():
        return 0
    epochs = folder.summary().get("epochs", 0)
    return epochs if isinstance(epochs, int) else 0


class Targets:
    """Brings the targets of ``found``, another data set, to the names of ``own``, the run's.

    Classes and labels go by their names. Raises :class:`UserError` where the targets are not alike.
    """

    def __init__(self, found: DataSpec, own: DataSpec, skip_unknown: bool) -> None:
        try:
            self._there, self._here = found.target, own.target
        except ValueError as error:
            raise UserError(
                f"data: {error}: such a run is evaluated on its own data alone."
            ) from error
        if self._there.kind != self._here.kind:
            raise UserError(
                f"data: its target is {_what(self._there)}, and this run's {_what(self._here)}."
            )
        self._skip, self._skipped = skip_unknown, dict[str, int]()
        self._places: Tensor | None = None
        if self._here.names:
            index = {name: place for place, name in enumerate(self._here.names)}
            self._places = torch.tensor([index.get(name, -1) for name in self._there.names])

    def __call__(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """The target (batch, …) in the run's classes, and which rows are kept (batch,)."""
        kept = torch.ones(len(target), dtype=torch.bool)
        if self._places is None:
            return target, kept
        if self._here.kind == "labels":
            return self._labels(target), kept
        if self._here.kind == "mask":
            return self._masks(target), kept
        if self._here.kind == "tokens":
            return self._tokens(target), kept
        if self._here.kind == "number":
            return self._numbers(target), kept
        mapped = self._places[target]
        kept = mapped >= 0
        if not bool(kept.all()):
            self._leave_out(target[~kept])
        return mapped[kept], kept

    def columns(self, target: Tensor) -> Batch:
        """The batch's columns of ``target``, as it comes of a call."""
        if self._here.shape[:1] != (None,):
            return {"target": target}
        return {"target": target, "target_length": (target != (self._here.fill or 0)).sum(1)}

    def tell(self) -> None:
        """Log what was left out."""
        if self._skipped:
            named = ", ".join(f"{name} ({n:,})" for name, n in self._skipped.items())
            logger.warning("left out, for the run has no such class: %s", named)

    def _labels(self, target: Tensor) -> Tensor:
        assert self._places is not None
        unknown = [n for n, place in zip(self._there.names, self._places, strict=True) if place < 0]
        if unknown:
            self._refuse(unknown[0])
        found = torch.zeros(len(target), len(self._here.names), dtype=target.dtype)
        found[:, self._places] = target
        return found

    def _masks(self, target: Tensor) -> Tensor:
        """Masks in the run's classes; pixels of a class that it lacks count for nothing."""
        assert self._places is not None
        nothing = self._here.fill or 0
        found = torch.full_like(target, nothing)
        for place, name in enumerate(self._there.names):
            own, pixels = int(self._places[place]), target == place
            if own >= 0:
                found[pixels] = own
            elif count := int(pixels.sum()):
                if not self._skip:
                    self._refuse(name)
                self._skipped[name] = self._skipped.get(name, 0) + count
        return found

    def _numbers(self, target: Tensor) -> Tensor:
        """Series by their names, in the run's order."""
        assert self._places is not None
        lengths = tuple(target.shape[1:-1]), tuple(self._here.shape[:-1])
        if lengths[0] != lengths[1]:
            raise UserError(
                f"data: its targets have {lengths[0]} steps, and this run's {lengths[1]}: give "
                "data.history and data.horizon as the run has them."
            )
        found = torch.empty(*target.shape[:-1], len(self._here.names), dtype=target.dtype)
        for own, name in enumerate(self._here.names):
            if name not in self._there.names:
                raise UserError(
                    f"data: its target has no series {name!r}, which the run forecasts."
                )
            found[..., own] = target[..., self._there.names.index(name)]
        return found

    def _tokens(self, target: Tensor) -> Tensor:
        """Tokens by their names; one that the run lacks is its unknown one, where it has that."""
        assert self._places is not None
        lacking = [
            name for name, own in zip(self._there.names, self._places, strict=True) if own < 0
        ]
        if lacking and UNKNOWN not in self._here.names:
            self._refuse(lacking[0])
        unknown = self._here.names.index(UNKNOWN) if lacking else 0
        return self._places.where(self._places >= 0, unknown)[target]

    def _leave_out(self, targets: Tensor) -> None:
        for place in targets.tolist():
            name = self._there.names[place]
            if not self._skip:
                self._refuse(name)
            self._skipped[name] = self._skipped.get(name, 0) + 1

    def _refuse(self, name: str) -> None:
        names = self._here.names
        hint = did_you_mean(name, names) or f"It has {', '.join(names[:12])}."
        raise UserError(
            f"data: the run has no class {name!r}. {hint} --skip-unknown leaves its examples out."
        )


class Read(Stream):
    """Labeled examples of another data set, as a run's reader reads them, in their order."""

    def __init__(
        self, parts: Iterator[Labeled], reader: Reader, targets: Targets, settings: Settings
    ) -> None:
        self._parts, self._reader, self._targets = parts, reader, targets
        self._device = settings.device
        self.count = 0
        """Examples so far."""

    steps_per_epoch = None

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        assert not epoch and not start, "these are read once"
        self._rows = torch.empty(0)
        for part in self._parts:
            target, kept = self._targets(part.target)
            if not len(target):
                continue
            examples = [one for one, keep in zip(part.examples, kept.tolist(), strict=True) if keep]
            try:
                batch = self._reader.read(examples) | self._targets.columns(target)
            except ValueError as error:
                raise UserError(f"data: {error}") from error
            self._rows = torch.arange(self.count, self.count + len(target))
            self.count += len(target)
            yield {name: column.to(self._device) for name, column in batch.items()}
        if not self.count:
            raise UserError("data: no example is left to evaluate.")

    def rows(self, epoch: int, position: int) -> Tensor:
        return self._rows


class Chained(Stream):
    """Several splits, one after the other."""

    steps_per_epoch = None

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams
        self._rows = torch.empty(0)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        before = 0
        for stream in self._streams:
            for position, batch in stream.dealt(0, 1):
                self._rows = stream.rows(0, position) + before
                yield batch
            before += stream.examples or 0

    def rows(self, epoch: int, position: int) -> Tensor:
        return self._rows


def data_of(folder: RunFolder, overrides: Sequence[str]) -> OtherData | None:
    """The config of the data that ``overrides`` name; None where there are none.

    ``data=…`` chooses a data set, ``data.KEY=…`` alone changes the run's own. Raises
    :class:`UserError` for any other.
    """
    if not overrides:
        return None
    choice, values = composition.assigned(overrides, "data")
    if choice is not None:
        return _other_data(composition.compose(overrides)["data"], {}, None)
    return _other_data(read_config(folder).get("data"), values, allowed_packages())


def _other_data(
    found: Any, values: Mapping[str, Any], packages: frozenset[str] | None
) -> OtherData:
    """The config ``found`` with ``values`` by key.

    Raises :class:`ConfigError` for a key that is not there.
    """
    node = copy.deepcopy(found)
    if not isinstance(node, dict):
        raise ConfigError([Fault("data", "this group is missing from the config.")])
    for key, value in values.items():
        *path, last = key.split(".")[1:]
        place: Any = node
        for word in path:
            place = place.get(word) if isinstance(place, Mapping) else None
        if not isinstance(place, Mapping) or last not in place:
            hint = did_you_mean(last, [k for k in (place or node) if k != "_target_"])
            raise ConfigError([Fault(key, "there is no such key.", hint)])
        place[last] = value  # type: ignore[index]
    # Its class is imported, which knows what paths are.
    plan(node, Source, "data", packages=packages).make()
    return OtherData(absolute({"data": node, "output_dir": "."}, Path.cwd())["data"], packages)


def _named(data: Mapping[str, Any]) -> str:
    """What a data set is called: its path, or its class."""
    for key in ("path", "name", "environment"):
        if isinstance(data.get(key), str):
            return str(data[key])
    return str(data.get("_target_", "")).rpartition(".")[2]


def _what(field: Field) -> str:
    names = {"class": "a class", "number": "a number", "labels": "labels", "mask": "masks"}
    return names.get(field.kind, field.kind)
