"""From a config to the parts that it names, with every fault at once.

Knows nothing of Hydra: a config here is a plain dict, composed or read from a run folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch

from dltrain.callbacks.record import Record
from dltrain.config.build import Plan as Planned
from dltrain.config.build import plan
from dltrain.config.refusals import refused, too_large
from dltrain.config.stand_ins import shown, stand_ins
from dltrain.config.values import fits, wrong_type
from dltrain.contracts.acting import Acts
from dltrain.contracts.data import DataSpec, Source
from dltrain.contracts.run import (
    Callback,
    Modifier,
    Plan,
    Regularizer,
    Schedule,
)
from dltrain.contracts.task import Task
from dltrain.core.loop import OwnPhases
from dltrain.core.settings import Settings
from dltrain.data.kept import KeptData
from dltrain.engine import runtime
from dltrain.engine.memory import available_memory, network_within
from dltrain.errors import ConfigError, Fault, UserError, is_out_of_memory
from dltrain.optim.patterns import PatternError, named_by
from dltrain.runs.environment import choose_device
from dltrain.runs.names import problem_of

Config = Mapping[str, Any]


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
        if self._source is not None:
            learned = plan(config["task"], Task, "task", {}, self._packages).target
            self._source.target_needed = getattr(learned, "needs_target", True)
            self._source.any_size = getattr(learned, "any_size", False)
        self._model: torch.nn.Module | None = None
        self._task: Task | None = None
        self._outline = self._source.outline() if self._source is not None else None
        spec = self._outline if self._outline is not None and self._outline.complete else None
        if spec is not None:
            self._make_task(spec)
        else:
            self._check_task()
        if self._config.get(PLAN) is not None:
            self._find_faults(PLAN, Plan, spec)
        self._check_optimization()
        self._watchers = self._make_watchers(spec)
        self._raise_faults()

    @property
    def settings(self) -> Settings:
        """The loop's."""
        assert self._settings is not None, "it was checked"
        return self._settings

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
        phases = self._phases(spec)
        regularizers, modifiers, callbacks = self._watchers
        for name, modifier in zip(self._config["modifiers"], modifiers, strict=True):
            try:
                modifier.attach(self._task)
            except ValueError as error:
                arguments = self._config["modifiers"][name]
                self._faults.append(refused(f"modifiers.{name}", arguments, error))
        self._raise_faults()
        assert phases is not None
        task: Any = self._task  # torch's types know of no memory_format here
        task.to(settings.device, memory_format=settings.memory_format)
        callbacks = [Record(), *callbacks]
        return Parts(
            settings,
            self._source,
            spec,
            self._task,
            [*phases.regularizers, *regularizers],
            [*phases.modifiers, *modifiers],
            callbacks,
            phases,
        )

    def _phases(self, spec: DataSpec) -> Plan | None:
        """The config's plan, or the task's own phases; None with a fault noted."""
        assert self._task is not None
        node = self._config.get(PLAN)
        if node is None:
            return OwnPhases(self._task)
        found: Plan | None = self._made(PLAN, node, Plan, spec)
        if found is None:
            return None
        try:
            found.check(self._task)
        except ValueError as error:
            self._faults.append(refused(PLAN, node, error))
        for modifier in found.modifiers:
            modifier.attach(self._task)
        return found

    def _read(self) -> DataSpec:
        try:
            found: DataSpec = self._source.read(self._config["seed"])
        except UserError:
            raise
        except ValueError as error:
            raise ConfigError([refused("data", self._config["data"], error)]) from error
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise ConfigError([too_large("data", self._config["data"], error)]) from error
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
            with network_within(available_memory()):
                self._model = self._make(found)
        if self._model is not None:
            self._task = self._made("task", config["task"], Task, spec, model=self._model)
        else:
            self._find_faults("task", Task, None)
        if self._task is not None:
            self._faults += _rate_faults(optimizer_settings(config), self._task)

    def _check_task(self) -> None:
        """See what can be seen before the data is read."""
        before = len(self._faults)
        self._find_faults("model", torch.nn.Module, self._outline)
        if len(self._faults) == before and self._outline is not None:
            self._try_model(self._outline)
            self._require_actions(self._outline)
        self._find_faults("task", Task, None)

    def _require_actions(self, outline: DataSpec) -> None:
        """Refuse a task that learns by acting, of data that will be no environment."""
        node = self._config["task"]
        learned = plan(node, Task, "task", {}, self._packages).target
        if not isinstance(learned, type) or not issubclass(learned, Acts):
            return
        try:
            outline.action  # noqa: B018 - it says what is wrong
        except ValueError as error:
            self._faults.append(refused("task", node, error))

    def _try_model(self, outline: DataSpec) -> None:
        """Refuse a network that reads no data of such an outline, whatever its sizes."""
        refusals = []
        node = self._config["model"]
        # Vectors of words are of words that nobody knows yet.
        initial = all(field.names or field.kind != "tokens" for field in outline.of("input"))
        for spec in stand_ins(outline):
            try:
                with network_within(available_memory()):
                    plan(
                        *(node, torch.nn.Module, "model", {}, self._packages, spec),
                        initial=initial,
                    ).make()
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
        rates = optimizer_settings(self._config)
        self._faults += _decay_faults(rates.common)
        if self._made("optimizer", rates.common, torch.optim.Optimizer, params=stand_in) is None:
            return
        for name, settings in rates.own.items():
            key = f"optimizer.{name}"
            self._made(key, settings, torch.optim.Optimizer, params=stand_in)
        for name, settings in rates.patterns.items():
            key = f"optimizer.{PATTERNS}.{name}"
            for setting, value in settings.items():
                if isinstance(value, bool) and isinstance(rates.common.get(setting), bool):
                    problem = "is the same for all parameters: set it in optimizer itself."
                    self._faults.append(Fault(f"{key}.{setting}", problem))
            made = {**rates.common, **settings}
            self._made(key, made, torch.optim.Optimizer, params=stand_in)

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
    """Whether the parts of ``config`` can be made for its data, as far as their outline tells.

    Nothing is computed or allocated.
    """
    try:
        with torch.device("meta"), Assembly(config):
            return True
    except UserError:
        return False


WATCHERS: dict[str, type[Any]] = {
    "regularizer": Regularizer,
    "modifiers": Modifier,
    "callbacks": Callback,
}
ROOT_TYPES: dict[str, Any] = {
    "seed": int,
    "device": str,
    "init_from": str | None,
    "output_dir": str,
    "name": str,
}
GROUPS = ("model", "data", "task", "optimizer", "schedule", *WATCHERS, "trainer")

DECAYS = ("momentum", "alpha")
"""Of torch's optimizers: fractions that are kept of what was, whatever their size to torch."""

PLAN = "federated"
"""The key of a plan of phases; null, or missing in runs of earlier versions: the task's own."""

PATTERNS = "groups"
"""The key in optimizer of what is named by patterns, and by no group of the task's."""


def _root_faults(config: Config) -> list[Fault]:
    """What is wrong above the groups, where no constructor can tell."""
    faults = [
        wrong_type(key, config.get(key), kind)
        for key, kind in ROOT_TYPES.items()
        if not fits(config.get(key), kind)
    ]
    if not faults and not 0 <= config["seed"] < 2**63:
        faults.append(Fault("seed", f"must be from 0 to 2**63 - 1, got {config['seed']}."))
    problem = problem_of(config["name"]) if not faults else ""
    if problem:
        faults.append(Fault("name", f"{problem}.", joint=" "))
    for group in GROUPS:
        if not isinstance(config.get(group), Mapping):
            faults.append(Fault(group, "this group is missing from the config."))
    return faults or _pattern_faults(config["optimizer"].get(PATTERNS) or {})


def _pattern_faults(patterns: Any) -> list[Fault]:
    """What is no mapping from patterns to settings."""
    key, hint = f"optimizer.{PATTERNS}", "As in {fc: {lr: 1e-2}}."
    if not isinstance(patterns, Mapping):
        return [wrong_type(key, patterns, Mapping, hint)]
    return [
        wrong_type(f"{key}.{pattern}", settings, Mapping, hint)
        for pattern, settings in patterns.items()
        if not isinstance(settings, Mapping)
    ]


@dataclass(frozen=True)
class Rates:
    """What the config says of optimizers."""

    common: dict[str, Any]
    """For all parameters."""
    own: dict[str, dict[str, Any]]
    """For each of the task's groups that has some of its own; with those for all."""
    patterns: dict[str, dict[str, Any]]
    """What differs for the parameters that a pattern names."""


def optimizer_settings(config: Config) -> Rates:
    """The settings of ``optimizer``: a mapping there is named after one of the task's groups.

    What it lacks, or has null, is as for all. Runs of earlier versions have no patterns.
    """
    given = dict(config["optimizer"])
    patterns = given.pop(PATTERNS, None) or {}
    common = {key: value for key, value in given.items() if not isinstance(value, Mapping)}
    own = {
        name: common | {key: value for key, value in settings.items() if value is not None}
        for name, settings in given.items()
        if isinstance(settings, Mapping)
    }
    return Rates(common, own, patterns)


def _decay_faults(settings: Mapping[str, Any]) -> list[Fault]:
    """What torch takes, though it grows without end: it refuses only what is below 0."""
    return [
        Fault(f"optimizer.{name}", f"must be from 0 to below 1, got {settings[name]}.", joint=" ")
        for name in DECAYS
        if fits(settings.get(name), float) and settings[name] >= 1
    ]


def _rate_faults(rates: Rates, task: Task) -> list[Fault]:
    """A fault for each name in ``rates`` that stands for nothing of ``task``."""
    groups = task.parameter_groups()
    problem, hint = "this task has no such group of parameters.", f"It has {', '.join(groups)}."
    faults = [Fault(f"optimizer.{name}", problem, hint) for name in rates.own if name not in groups]
    trained = {parameter for group in groups.values() for parameter in group}
    taken: set[torch.nn.Parameter] = set()
    for pattern in reversed(rates.patterns):
        key = f"optimizer.{PATTERNS}.{pattern}"
        try:
            named = set(named_by([pattern], task)[pattern])
        except PatternError as error:
            faults.append(Fault(key, "the network has no such part.", error.hint))
            continue
        if not named & trained:
            faults.append(Fault(key, "what it names is frozen.", "See model.freeze."))
        elif named <= taken:
            hint = "The last pattern that names a parameter counts: put this one behind them."
            faults.append(Fault(key, "the patterns after it name all that it names.", hint))
        taken |= named
    return faults
