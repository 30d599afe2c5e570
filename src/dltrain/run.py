"""Assemble a run from its config, train it, and leave one folder that tells all.

Knows nothing of Hydra: a config here is a plain dict, composed or read from a run folder.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from dltrain import checkpoint
from dltrain.allocator import memory_kept
from dltrain.build import OWN_PACKAGES, build, expected, fits, plan
from dltrain.callbacks.console import Console
from dltrain.callbacks.record import Record
from dltrain.contracts.run import Group, Modifier
from dltrain.data.loaders import FirstBatches
from dltrain.environment import choose_device, describe
from dltrain.errors import ConfigError, Fault, UserError
from dltrain.folder import RunFolder
from dltrain.optimize import Optimize, weights_of, with_decay_where_exact
from dltrain.trainer import Trainer
from dltrain.types import Callback, Loaders, Regularizer, Schedule, Source, Task, spec_of
from dltrain.uncompiled import keep_compiler_out

Config = Mapping[str, Any]

CONFIG, FACTS = "config.yaml", "facts.json"


@dataclass(frozen=True)
class Parts:
    """Everything a run is made of that needs no data."""

    device: torch.device
    source: Source
    task: Task
    trainer: Trainer
    regularizers: list[Regularizer]
    modifiers: list[Modifier]
    callbacks: list[Callback]


def train(config: Config, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Train a new run of ``config``; return its summary.

    Raises :class:`ConfigError` with every fault of the config, before any data is loaded or
    any file written, and :class:`UserError` for what goes wrong later.
    """
    started = time.perf_counter()
    parts = assemble(config)
    loaders = _load(config, parts)
    optimize, schedule = _optimization(config, parts, loaders)
    folder = RunFolder.create(Path(config["output_dir"]).expanduser(), config["name"])
    folder.write_text(CONFIG, yaml.safe_dump(dict(config), sort_keys=False, width=100))
    folder.write_text("overrides.txt", "".join(f"{line}\n" for line in overrides))
    folder.write_json("environment.json", describe(parts.device, parts.trainer.precision))
    folder.write_json(FACTS, parts.source.facts)
    parts.source.keep(folder.path)
    return _Run(config, parts, loaders, optimize, schedule, folder, started).go(None)


def resume(run: str, output_dir: Path) -> dict[str, Any]:
    """Go on with an interrupted run, as if it had never been interrupted; return its summary.

    Its config may name only models, tasks and so on from dltrain, torch, torchvision and
    the packages listed in the environment variable ``DLTRAIN_PACKAGES``.
    """
    started = time.perf_counter()
    folder = RunFolder.find(run, output_dir)
    folder.hold()
    summary = folder.read_json("summary.json")
    if summary["status"] == "finished":
        raise UserError(f"{folder.path} is finished: there is nothing to resume.")
    config = _read_config(folder)
    try:
        parts = assemble(config, _allowed_packages())
    except ConfigError as error:
        raise UserError(f"{folder.path / CONFIG}: {error}") from error
    state = checkpoint.load(folder.path / checkpoint.LAST, parts.device)
    loaders = _load(config, parts)
    optimize, schedule = _optimization(config, parts, loaders)
    return _Run(config, parts, loaders, optimize, schedule, folder, started).go(state)


def load(run: str | Path = "latest", weights: str = "last", output_dir: str = "outputs") -> Task:
    """Return the trained task of a run, in eval mode on the CPU: ``load("latest").predict(batch)``.

    ``weights`` is ``last`` or ``best``. The data is not needed. The same limits on packages hold
    as for :func:`resume`.
    """
    folder = RunFolder.find(str(run), Path(output_dir))
    config, facts, packages = _read_config(folder), folder.read_json(FACTS), _allowed_packages()
    try:
        facts["spec"] = spec_of(facts)
        model = plan(config.get("model", {}), torch.nn.Module, "model", facts, packages).make()
        facts["model"] = model
        task = plan(config.get("task", {}), Task, "task", facts, packages).make()
        modifiers = [
            plan(node, Modifier, f"modifiers.{name}", facts, packages).make()
            for name, node in config.get("modifiers", {}).items()
        ]
    except ConfigError as error:
        raise UserError(f"{folder.path / CONFIG}: {error}") from error
    state = checkpoint.load(folder.path / "checkpoints" / f"{weights}.pt")
    for modifier in modifiers:
        modifier.attach(task)
    task.load_state_dict(state["task"])
    # Of the best weights the checkpoint holds what was evaluated: there is nothing to restore.
    for modifier, modifier_state in zip(modifiers, state.get("modifiers", ()), strict=False):
        modifier.load_state_dict(modifier_state)
    for modifier in modifiers:
        modifier.finish(task)
    return task.eval()


def assemble(config: Config, packages: frozenset[str] | None = None) -> Parts:
    """Check the whole config, then build what needs no data.

    Raises :class:`ConfigError` with all faults at once.
    """
    faults: list[Fault] = []

    def made(key: str, node: Any, kind: type[Any], **facts: Any) -> Any:
        """What the node makes; or None, with its faults noted."""
        try:
            return plan(node, kind, key, facts, packages).make()
        except ConfigError as error:
            faults.extend(error.faults)
            return None

    faults += _root_faults(config)
    if faults:
        raise ConfigError(faults)
    try:
        device = choose_device(config["device"])
    except UserError as error:
        faults.append(Fault("device", str(error)))
        device = torch.device("cpu")
    trainer = made("trainer", config["trainer"], Trainer, device=device)
    _set_up(config["seed"], trainer)
    source = made("data", config["data"], Source)
    facts = source.facts if source is not None else {}
    if facts:
        facts = {**facts, "spec": spec_of(facts)}
    if source is not None:
        model = made("model", config["model"], torch.nn.Module, **facts)
    else:
        model = None
        faults += plan(config["model"], torch.nn.Module, "model", {}, packages, False).faults
    if model is not None:
        task = made("task", config["task"], Task, **facts, model=model)
    else:
        task = None
        faults += plan(config["task"], Task, "task", {}, packages, False).faults
    # The real steps and parameters come with the data; these see that the values are right.
    made("schedule", config["schedule"], Schedule, total_steps=1, steps_per_epoch=1)
    stand_in = [torch.nn.Parameter(torch.zeros(1))]
    common, own = _optimizer_settings(config)
    if made("optimizer", common, torch.optim.Optimizer, params=stand_in) is not None:
        for name, settings in own.items():
            made(f"optimizer.{name}", settings, torch.optim.Optimizer, params=stand_in)
    if task is not None:
        faults += _group_faults(own, task.parameter_groups())
    regularizers, modifiers, callbacks = (
        [made(f"{group}.{name}", node, kind, **facts) for name, node in config[group].items()]
        for group, kind in (
            ("regularizer", Regularizer),
            ("modifiers", Modifier),
            ("callbacks", Callback),
        )
    )
    for name, modifier in zip(config["modifiers"], modifiers, strict=True):
        if task is not None and modifier is not None:
            try:
                modifier.attach(task)
            except ValueError as error:
                faults.append(Fault(f"modifiers.{name}", str(error)))
    if faults:
        raise ConfigError(faults)
    task.to(device, memory_format=trainer.memory_format)
    callbacks = [Record(), *callbacks, Console()]
    return Parts(device, source, task, trainer, regularizers, modifiers, callbacks)


ROOT_TYPES = {"seed": int, "device": str, "output_dir": str, "name": str}
GROUPS = (
    *("model", "data", "task", "optimizer", "schedule", "regularizer", "modifiers"),
    *("callbacks", "trainer"),
)


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


def _set_up(seed: int, trainer: Trainer | None) -> None:
    """Fix every generator; if asked, refuse operations that are not deterministic, or allow TF32.

    Numbers too small for float32's full precision are flushed to zero from here on: a processor
    is slow with them, twenty times in a recurrent network whose gradient reaches far back
    (docs/performance.md). Threads inherit this, so it comes before the first of them.
    """
    keep_compiler_out(torch.optim.Optimizer)
    torch.set_flush_denormal(True)
    random.seed(seed)
    torch.manual_seed(seed)
    deterministic = trainer is not None and trainer.deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if deterministic != torch.are_deterministic_algorithms_enabled():  # this imports the compiler
        torch.use_deterministic_algorithms(deterministic)
    # torch allows it in convolutions unless told otherwise, and then float32 is not what it says.
    rounded = trainer is not None and trainer.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = rounded


def _load(config: Config, parts: Parts) -> Loaders:
    loaders = parts.source.loaders(parts.device, config["seed"])
    if parts.trainer.overfit:
        train = FirstBatches(loaders.train, parts.trainer.overfit)
        loaders = Loaders(train, loaders.validation, loaders.test)
    parts.trainer.check(loaders)
    for callback in parts.callbacks:
        callback.check(loaders)
    return loaders


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


def _optimization(config: Config, parts: Parts, loaders: Loaders) -> tuple[Optimize, Schedule]:
    common, own = _optimizer_settings(config)
    weights = weights_of(parts.task)
    optimizers, penalties = {}, {}
    for name, parameters in parts.task.parameter_groups().items():
        optimizers[name], penalties[name] = _optimizer(
            own.get(name, common), parameters, weights[name], parts
        )
    groups = {
        name: Group(parameters, weights[name])
        for name, parameters in parts.task.parameter_groups().items()
    }
    for modifier in parts.modifiers:
        modifier.start(groups)
    trainer = parts.trainer
    optimize = Optimize(
        optimizers,
        weights,
        penalties,
        parts.device.type,
        trainer.clip_norm,
        trainer.accumulate,
        parts.modifiers,
    )
    steps_per_epoch = len(loaders.train)
    schedule = build(
        config["schedule"],
        Schedule,
        "schedule",
        total_steps=trainer.total_steps(steps_per_epoch),
        steps_per_epoch=steps_per_epoch,
    )
    return optimize, schedule


def _optimizer(
    settings: Config,
    parameters: Sequence[torch.nn.Parameter],
    weights: Sequence[torch.nn.Parameter],
    parts: Parts,
) -> tuple[torch.optim.Optimizer, list[Regularizer]]:
    """One group's optimizer, which decays its ``weights`` alone, and the penalties left over."""
    target = plan(settings, torch.optim.Optimizer, "optimizer", {"params": []}).target
    assert target is not None
    decay, penalties = with_decay_where_exact(settings, target, parts.regularizers)
    decayed = set(weights)
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": decay},
        {"params": [p for p in parameters if p not in decayed], "weight_decay": 0.0},
    ]
    if not decay:  # one group steps faster than two
        groups = [{"params": parameters, "weight_decay": 0.0}]
    optimizer = build(
        {key: value for key, value in settings.items() if key != "weight_decay"},
        torch.optim.Optimizer,
        "optimizer",
        params=[group for group in groups if group["params"]],
        fused=_has_fused(target, parts.device),
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
        self,
        config: Config,
        parts: Parts,
        loaders: Loaders,
        optimize: Optimize,
        schedule: Schedule,
        folder: RunFolder,
        started: float,
    ) -> None:
        self.config, self.parts, self.loaders = config, parts, loaders
        self.optimize, self.schedule, self.folder = optimize, schedule, folder
        self.started = started

    def go(self, state: Mapping[str, Any] | None) -> dict[str, Any]:
        """Train, and end in order whatever happens; return the summary."""
        trainer, parts = self.parts.trainer, self.parts
        trainer.seconds["setup"] = time.perf_counter() - self.started
        status = "failed"
        self._summarise("running")
        try:
            with memory_kept():
                status = trainer.fit(
                    parts.task,
                    self.loaders,
                    self.optimize,
                    self.schedule,
                    parts.callbacks,
                    self.folder,
                    state,
                )
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
            interrupted = status == "interrupted"
            with self.optimize.evaluation_weights() if interrupted else nullcontext():
                for callback in parts.callbacks:
                    callback.end(trainer, status)
            self.folder.release()
        return summary | {"signal": trainer.signal}

    def _summarise(self, status: str) -> dict[str, Any]:
        trainer = self.parts.trainer
        total = time.perf_counter() - self.started
        train_seconds = trainer.seconds["train"]
        summary = {
            "status": status,
            "epochs": trainer.epoch,
            "steps": trainer.step,
            "seed": self.config["seed"],
            "device": str(self.parts.device),
            "parameters": sum(p.numel() for p in self.parts.task.parameters()),
            "test": trainer.results.get("test", {}),
            "validation": trainer.results.get("validation", {}),
            "seconds": {
                name: round(seconds, 3)
                for name, seconds in {**trainer.seconds, "total": total}.items()
            },
            "samples_per_second": round(trainer.samples / train_seconds, 1) if train_seconds else 0,
        }
        self.folder.write_json("summary.json", summary)
        return summary

    def _out_of_memory(self) -> str:
        batch_size = self.config["data"].get("batch_size")
        return (
            f"Out of memory on {self.parts.device}. Lower data.batch_size (now {batch_size}; "
            f"trainer.accumulate=2 keeps the effective size), lower "
            f"data.evaluation_batch_size, or set trainer.precision=auto."
        )


def _read_config(folder: RunFolder) -> dict[str, Any]:
    path = folder.path / CONFIG
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is not the config of a run.")
    return config


def _allowed_packages() -> frozenset[str]:
    named = os.environ.get("DLTRAIN_PACKAGES", "").replace(",", " ").split()
    return OWN_PACKAGES | frozenset(named)
