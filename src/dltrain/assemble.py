"""Assemble a run from its config, train it, and leave one folder that tells all.

Knows nothing of Hydra: a config here is a plain dict, composed or read from a run folder.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from dltrain import messages
from dltrain.callbacks.console import Console
from dltrain.callbacks.record import Record
from dltrain.config.build import Plan as Planned
from dltrain.config.build import build, expected, fits, plan
from dltrain.config.paths import absolute
from dltrain.config.refusals import refused
from dltrain.config.stand_ins import shown, stand_ins
from dltrain.contracts.data import DataSpec, Placement, Source, Streams
from dltrain.contracts.run import (
    Callback,
    Group,
    Modifier,
    Plan,
    Probe,
    Regularizer,
    Schedule,
    Setup,
)
from dltrain.contracts.task import Task
from dltrain.core.loop import OnePhase, Trainer
from dltrain.core.settings import Settings
from dltrain.core.update import Optimize, with_decay_where_exact
from dltrain.data.kept import IDENTITY, KeptData, identity_of
from dltrain.data.streams.in_memory import FirstBatches
from dltrain.engine import runtime
from dltrain.errors import ConfigError, Fault, Interrupted, UserError
from dltrain.optim.groups import groups_of
from dltrain.runs import checkpoint
from dltrain.runs.environment import choose_device, describe
from dltrain.runs.folder import RunFolder
from dltrain.runs.load import (
    CONFIG,
    READER,
    SPEC,
    allowed_packages,
    read_config,
    spec_of_run,
)
from dltrain.runs.model_summary import summarise

Config = Mapping[str, Any]

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Parts:
    """Everything a run is made of, and what its data is."""

    settings: Settings
    source: Source
    spec: DataSpec
    task: Task
    regularizers: list[Regularizer]
    modifiers: list[Modifier]
    callbacks: list[Callback]
    plan: Plan


def train(config: Config, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train a new run of ``config``; return its summary.

    Raises :class:`ConfigError` with every fault of the config, before any data is loaded or
    any file written, and :class:`UserError` for what goes wrong later.
    """
    started = time.perf_counter()
    with messages.shown() as shown, Assembly(config) as assembly:
        parts = assembly.read()
        run = _Run(absolute(config, Path.cwd()), parts, shown, started)
        folder = RunFolder.create(Path(config["output_dir"]).expanduser(), config["name"])
        with _begun(folder):
            run.describe(folder, overrides)
            run.begin(folder)
            return run.go(None)


def resume(run: str, output_dir: Path, changed_data: bool = False) -> dict[str, Any]:
    """Go on with an interrupted run, as if it had never been interrupted; return its summary.

    Raises :class:`UserError` where its data is not what it began with, unless ``changed_data``.
    Its config may name only models, tasks and so on from dltrain, from what torch and torchvision
    have of them, and from the packages listed in the environment variable ``DLTRAIN_PACKAGES``.
    """
    started = time.perf_counter()
    folder = RunFolder.find(run, output_dir)
    folder.hold()
    with _begun(folder):
        return _resume(folder, started, changed_data)


def _resume(folder: RunFolder, started: float, changed_data: bool) -> dict[str, Any]:
    summary = folder.read_json(SUMMARY)
    if summary.get("status") == "finished":
        raise UserError(f"{folder.path} is finished: there is nothing to resume.")
    config = read_config(folder)
    identity = folder.read_json(SPEC).get(IDENTITY, {}) if (folder.path / SPEC).is_file() else {}
    kept = KeptData(folder.path, spec_of_run(folder), identity, changed_data)
    with messages.shown() as shown, ExitStack() as stack:
        try:
            parts = stack.enter_context(Assembly(config, allowed_packages())).read(kept)
        except ConfigError as error:
            raise UserError(f"{folder.path / CONFIG}: {error}") from error
        state = checkpoint.load(folder.path / checkpoint.LAST, parts.settings.device)
        going_on = _Run(config, parts, shown, started)
        if identity_of(parts.source) != kept.identity:  # of the data that it goes on with
            going_on.describe_data(folder)
        going_on.begin(folder)
        return going_on.go(state)


@contextmanager
def _begun(folder: RunFolder) -> Iterator[None]:
    """An interruption in here names the run, which exists; in the end others may claim it."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(folder.path) from error
    finally:
        folder.release()


class Assembly(AbstractContextManager["Assembly"]):
    """A config, checked as a whole; and then the parts that it names.

    From its constructor on, the process is as the run needs it
    (:func:`dltrain.engine.runtime.settings`); as a context manager it puts it back.

    Raises :class:`ConfigError` with all faults at once, before any data is read.
    ``packages`` limits where classes may come from (None: anywhere).
    """

    def __init__(self, config: Config, packages: frozenset[str] | None = None) -> None:
        self._config, self._packages = config, packages
        self._faults = _root_faults(config)
        self._raise_faults()
        with ExitStack() as process:
            self._check(process)
            self._process = process.pop_all()

    def __exit__(self, *error: object) -> None:
        self._process.close()

    def _check(self, process: ExitStack) -> None:
        config = self._config
        try:
            device = choose_device(config["device"])
        except UserError as error:
            self._faults.append(Fault("device", str(error)))
            device = torch.device("cpu")
        self._device = device
        settings = self._made("trainer", config["trainer"], Settings, device=device)
        self._settings: Settings | None = settings
        process.enter_context(
            runtime.settings(
                seed=config["seed"],
                device=device,
                deterministic=settings is not None and settings.deterministic,
                tf32=settings is not None and settings.precision == "tf32",
                tune=settings is None or settings.tune_process,
            )
        )
        self._source = self._made("data", config["data"], Source)
        self._model: torch.nn.Module | None = None
        self._task: Task | None = None
        self._outline = self._source.outline() if self._source is not None else None
        spec = self._outline if self._outline is not None and self._outline.complete else None
        if spec is not None:
            self._make_task(spec)
        else:
            self._check_task()
        self._check_optimization()
        self._watchers = self._make_watchers(spec)
        self._raise_faults()

    @property
    def complete(self) -> bool:
        """Whether all is known of the data before they are read, so that all is checked."""
        return self._outline is not None and self._outline.complete

    def read(self, kept: KeptData | None = None) -> Parts:
        """Read the data, and build whatever had to wait for it.

        Raises :class:`ConfigError` for data that cannot be used as the config says, and
        :class:`UserError` where it is not that which was ``kept``.
        """
        try:
            spec = self._read()
        except UserError as error:
            if kept is None:
                raise
            raise kept.explain(error) from error
        if kept is not None:
            spec = kept.confirm(self._source, spec)
        if spec != self._outline:
            self._make_task(spec)
            self._watchers = self._make_watchers(spec)
        self._raise_faults()
        settings = self._settings
        assert self._task is not None
        assert settings is not None
        regularizers, modifiers, callbacks = self._watchers
        for name, modifier in zip(self._config["modifiers"], modifiers, strict=True):
            try:
                modifier.attach(self._task)
            except ValueError as error:
                arguments = self._config["modifiers"][name]
                self._faults.append(refused(f"modifiers.{name}", arguments, error))
        self._raise_faults()
        task: Any = self._task  # torch's types know of no memory_format here
        task.to(settings.device, memory_format=settings.memory_format)
        callbacks = [Record(), *callbacks]
        return Parts(
            settings,
            self._source,
            spec,
            self._task,
            regularizers,
            modifiers,
            callbacks,
            OnePhase(),
        )

    def _read(self) -> DataSpec:
        try:
            found: DataSpec = self._source.read(self._config["seed"])
        except UserError:
            raise
        except ValueError as error:
            raise ConfigError([refused("data", self._config["data"], error)]) from error
        return found

    def _made(
        self, key: str, node: Any, kind: type[Any], spec: DataSpec | None = None, **given: Any
    ) -> Any:
        """What the node makes; or None, with its faults noted."""
        return self._make(plan(node, kind, key, given, self._packages, spec))

    def _make(self, found: Planned[Any]) -> Any:
        try:
            return found.make()
        except ConfigError as error:
            self._faults += error.faults
            return None

    def _make_task(self, spec: DataSpec) -> None:
        """The model and the task of it; again where ``spec`` tells more than before.

        A model that is not told of it stays. Another draws the same initial weights.
        """
        config = self._config
        found = plan(config["model"], torch.nn.Module, "model", {}, self._packages, spec)
        if self._model is None or found.takes_spec:
            runtime.seed_generators(config["seed"], self._device)
            self._model = self._make(found)
        if self._model is not None:
            self._task = self._made("task", config["task"], Task, spec, model=self._model)
        else:
            self._find_faults("task", Task, None)

    def _check_task(self) -> None:
        """See what can be seen before the data is read."""
        before = len(self._faults)
        self._find_faults("model", torch.nn.Module, self._outline)
        if len(self._faults) == before and self._outline is not None:
            self._try_model(self._outline)
        self._find_faults("task", Task, None)

    def _try_model(self, outline: DataSpec) -> None:
        """Refuse a network that reads no data of such an outline, whatever its sizes."""
        refusals = []
        for spec in stand_ins(outline):
            node = self._config["model"]
            try:
                plan(node, torch.nn.Module, "model", {}, self._packages, spec).make()
            except ConfigError as error:
                refusals.append(error.faults)
            else:
                return
        for fault in refusals[0] if refusals else ():
            problem = fault.problem
            for shape, told in shown(outline).items():
                problem = problem.replace(shape, told)
            self._faults.append(replace(fault, problem=problem))

    def _find_faults(self, group: str, kind: type[Any], spec: DataSpec | None) -> None:
        """What is wrong with a group, apart from what is missing where nobody can tell yet."""
        node, known = self._config[group], spec is not None
        self._faults += plan(node, kind, group, {}, self._packages, spec, complete=known).faults

    def _check_optimization(self) -> None:
        """The real steps and parameters come with the data; these see that the values are right."""
        self._made("schedule", self._config["schedule"], Schedule, total_steps=1, steps_per_epoch=1)
        stand_in = [torch.nn.Parameter(torch.zeros(1))]
        common, own = _optimizer_settings(self._config)
        if self._made("optimizer", common, torch.optim.Optimizer, params=stand_in) is not None:
            for name, settings in own.items():
                key = f"optimizer.{name}"
                self._made(key, settings, torch.optim.Optimizer, params=stand_in)
        if self._task is not None:
            self._faults += _group_faults(own, self._task.parameter_groups())

    def _make_watchers(
        self, spec: DataSpec | None
    ) -> tuple[list[Regularizer], list[Modifier], list[Callback]]:
        """Regularizers, modifiers and callbacks, in the config's order.

        Without ``spec``, those that need it are only checked.
        """
        made: dict[str, list[Any]] = {group: [] for group in WATCHERS}
        for group, kind in WATCHERS.items():
            for name, node in self._config[group].items():
                key, known = f"{group}.{name}", spec is not None
                found = plan(node, kind, key, {}, self._packages, spec, complete=known)
                if found.faults or not found.waits:
                    made[group].append(self._make(found))
        return made["regularizer"], made["modifiers"], made["callbacks"]

    def _raise_faults(self) -> None:
        if self._faults:
            raise ConfigError(self._faults)


def outline_is_complete(config: Config) -> bool:
    """Whether all is known of the data of ``config`` before they are read."""
    try:
        return plan(config["data"], Source, "data").make().outline().complete
    except UserError:
        return False


def fits_together(config: Config) -> bool:
    """Whether the parts of ``config`` can be made for its data; False if these must be read first.

    Nothing is computed or allocated.
    """
    try:
        with torch.device("meta"), Assembly(config) as assembly:
            return assembly.complete
    except UserError:
        return False


WATCHERS: dict[str, type[Any]] = {
    "regularizer": Regularizer,
    "modifiers": Modifier,
    "callbacks": Callback,
}
ROOT_TYPES = {"seed": int, "device": str, "output_dir": str, "name": str}
GROUPS = ("model", "data", "task", "optimizer", "schedule", *WATCHERS, "trainer")


def _root_faults(config: Config) -> list[Fault]:
    """What is wrong above the groups, where no constructor can tell."""
    faults = [
        Fault(key, f"expected {expected(kind)}, got {config.get(key)!r}.")
        for key, kind in ROOT_TYPES.items()
        if not fits(config.get(key), kind)
    ]
    if not faults and not 0 <= config["seed"] < 2**63:
        faults.append(Fault("seed", f"must be from 0 to 2**63 - 1, got {config['seed']}."))
    for group in GROUPS:
        if not isinstance(config.get(group), Mapping):
            faults.append(Fault(group, "this group is missing from the config."))
    return faults


def _optimizer_settings(config: Config) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The settings for all parameters, and those of each group that has some of its own.

    A mapping in ``optimizer`` is named after a group; what it lacks, or has null, is as for all.
    """
    given = config["optimizer"]
    common = {key: value for key, value in given.items() if not isinstance(value, Mapping)}
    own = {
        name: common | {key: value for key, value in settings.items() if value is not None}
        for name, settings in given.items()
        if isinstance(settings, Mapping)
    }
    return common, own


def _group_faults(named: Iterable[str], groups: Iterable[str]) -> list[Fault]:
    """A fault for each of ``named`` that is none of the task's ``groups`` of parameters."""
    has = list(groups)
    problem, hint = "this task has no such group of parameters.", f"It has {', '.join(has)}."
    return [Fault(f"optimizer.{name}", problem, hint) for name in named if name not in has]


def _optimizer(
    settings: Config,
    group: Group,
    parts: Parts,
) -> tuple[torch.optim.Optimizer, list[Regularizer]]:
    """One group's optimizer, which decays its weights alone, and the penalties left over."""
    target = plan(settings, torch.optim.Optimizer, "optimizer", {"params": []}).target
    assert target is not None
    decay, penalties = with_decay_where_exact(settings, target, parts.regularizers)
    decayed = set(group.weights)
    groups: list[dict[str, Any]] = [
        {"params": group.weights, "weight_decay": decay},
        {"params": [p for p in group.parameters if p not in decayed], "weight_decay": 0.0},
    ]
    if not decay:  # one group steps faster than two
        groups = [{"params": group.parameters, "weight_decay": 0.0}]
    optimizer = build(
        {key: value for key, value in settings.items() if key != "weight_decay"},
        torch.optim.Optimizer,
        "optimizer",
        params=[part for part in groups if part["params"]],
        fused=_has_fused(target, parts.settings.device),
    )
    return optimizer, penalties


def _has_fused(optimizer: type[torch.optim.Optimizer], device: torch.device) -> bool | None:
    """Whether torch's one-kernel form of ``optimizer``, the fastest, runs on ``device``."""
    if device.type == "cuda" and optimizer is torch.optim.Adagrad:
        return None
    return True if device.type in ("cpu", "cuda") else None


class _Run:
    """A run from its first step to its last line; keeps ``summary.json`` true throughout."""

    def __init__(
        self, config: Config, parts: Parts, shown: messages.Messages, started: float
    ) -> None:
        self.config, self.parts, self._shown, self._started = config, parts, shown, started
        settings = parts.settings
        self.streams = _open(parts, config["seed"])
        steps_per_epoch = self.streams["train"].steps_per_epoch
        settings.check(self.streams, steps_per_epoch)
        self.groups = groups_of(parts.task)
        _check(parts, self.streams, self.groups)
        optimizers, penalties = {}, {}
        common, own = _optimizer_settings(config)
        for name, group in self.groups.items():
            optimizers[name], penalties[name] = _optimizer(own.get(name, common), group, parts)
        for modifier in parts.modifiers:
            modifier.start(self.groups)
        self.optimize = Optimize(
            optimizers,
            self.groups,
            penalties,
            settings.device.type,
            settings.clip_norm,
            settings.accumulate,
            parts.modifiers,
        )
        total = settings.total_steps(steps_per_epoch)
        self.schedule = build(
            config["schedule"],
            Schedule,
            "schedule",
            total_steps=total,
            # Data that never ends has one epoch: the run.
            steps_per_epoch=steps_per_epoch or total,
        )

    def begin(self, folder: RunFolder) -> None:
        """Take ``folder`` for this run's."""
        parts, self.folder = self.parts, folder
        self._console = Console(summarise(parts.task, self._first_batch()), self._shown)
        self.trainer = Trainer(
            parts.settings,
            parts.task,
            self.streams,
            self.optimize,
            self.schedule,
            folder,
            parts.modifiers,
            [*parts.callbacks, self._console],
            parts.plan,
            self.config["seed"],
            saved=lambda: self._summarise("running"),
        )

    def describe(self, folder: RunFolder, overrides: Sequence[str]) -> None:
        """Write what a new run's folder has from the beginning, whatever fails after it."""
        parts = self.parts
        folder.write_text(CONFIG, yaml.safe_dump(dict(self.config), sort_keys=False, width=100))
        folder.write_text("overrides.txt", "".join(f"{line}\n" for line in overrides))
        settings = parts.settings
        folder.write_json("environment.json", describe(settings.device, settings.precision))
        self.describe_data(folder)

    def describe_data(self, folder: RunFolder) -> None:
        """Write what the data is and what reads new examples."""
        parts = self.parts
        reader = parts.source.reader()
        folder.write_json(READER, {} if reader is None else reader.node(folder.path))
        # Last: what has it was written whole, by a version that has this format.
        identity = identity_of(parts.source)
        folder.write_json(SPEC, parts.spec.to_json() | {IDENTITY: identity})

    def go(self, state: Mapping[str, Any] | None) -> dict[str, Any]:
        """Train, and end in order whatever happens; return the summary."""
        trainer = self.trainer
        trainer.state.seconds["setup"] = time.perf_counter() - self._started
        status = "failed"
        self._summarise("running")
        try:
            status = trainer.fit(state)
        except KeyboardInterrupt:
            status, trainer.signal = "interrupted", signal.SIGINT
        except torch.OutOfMemoryError as error:
            raise UserError(self._out_of_memory()) from error
        except RuntimeError as error:
            if "can't allocate memory" in str(error):
                raise UserError(self._out_of_memory()) from error
            raise
        finally:
            summary = self._summarise(status)
            trainer.end(status)
        return summary | {"signal": trainer.signal}

    def _first_batch(self) -> dict[str, torch.Tensor]:
        return next(iter(self.streams["train"].plain()))

    def _summarise(self, status: str) -> dict[str, Any]:
        state = self.trainer.state
        total = time.perf_counter() - self._started
        train_seconds = state.seconds["train"]
        summary = {
            "status": status,
            "epochs": state.place("train").epoch,
            "steps": state.step,
            "seed": self.config["seed"],
            "device": str(self.parts.settings.device),
            "parameters": sum(p.numel() for p in self.parts.task.parameters()),
            "test": state.results.get("test", {}),
            "validation": state.results.get("validation", {}),
            "seconds": {
                name: round(seconds, 3)
                for name, seconds in {**state.seconds, "total": total}.items()
            },
            "samples_per_second": round(state.samples / train_seconds, 1) if train_seconds else 0,
        }
        self.folder.write_json(SUMMARY, summary)
        return summary

    def _out_of_memory(self) -> str:
        batch_size = self.config["data"].get("batch_size")
        return (
            f"Out of memory on {self.parts.settings.device}. Lower data.batch_size (now "
            f"{batch_size}; trainer.accumulate=2 keeps the effective size), lower "
            f"data.evaluation_batch_size, or set trainer.precision=auto."
        )


def _open(parts: Parts, seed: int) -> Streams:
    streams = parts.source.open(Placement(parts.settings.device, seed))
    if not parts.settings.overfit:
        return streams
    return {**streams, "train": FirstBatches(streams["train"], parts.settings.overfit)}


def _check(parts: Parts, streams: Streams, groups: Iterable[str]) -> None:
    """Raise :class:`UserError` where the run cannot give what its parts ask of it."""
    parts.task.eval()
    metrics = [name for metric in parts.task.metrics(False) for name in metric.names]
    parts.task.train()
    metrics += [n for one in parts.callbacks if isinstance(one, Probe) for n in one.names]
    monitor = parts.task.monitor.name
    if "validation" in streams and monitor not in metrics:
        raise UserError(
            f"task: {type(parts.task).__name__} monitors {monitor!r}, which its evaluation "
            f"does not give. It gives {', '.join(metrics) or 'nothing'}."
        )
    setup = Setup(parts.spec, frozenset(streams), metrics, list(groups))
    for callback in parts.callbacks:
        callback.check(setup)
