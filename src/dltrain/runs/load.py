"""Use a trained run: its task, its data's spec, its reader. Only the run folder is needed.

Below the callbacks, so that one of them may use another run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from dltrain.config.build import OWN_PACKAGES, plan
from dltrain.config.offered import named, offered
from dltrain.contracts.data import DataSpec, Reader
from dltrain.contracts.run import Modifier, Plan, evaluation_weights
from dltrain.contracts.task import Task
from dltrain.engine import runtime
from dltrain.engine.memory import available_memory, network_within
from dltrain.errors import ConfigError, Fault, UserError
from dltrain.files import own
from dltrain.optim.groups import groups_of
from dltrain.runs import checkpoint, checksums
from dltrain.runs.finding import find_run
from dltrain.runs.folder import CONFIG, SUMMARY, RunFolder
from dltrain.runs.listing import LARGEST, Unreadable, require_few

SPEC, READER = "data.json", "reader.json"
ID = "id"
"""The key of ``summary.json`` for what the run's checkpoints have, too."""
GROWING = ("metrics.", "events.", "train.log")
"""How the names of files begin that grow with a run, and that no reader needs."""

SLACK = 1 << 26
"""Bytes of a network that are in no checkpoint, such as buffers that can be computed again."""


class Loaded(NamedTuple):
    """A trained run: its task in eval mode on the CPU, and the network that the config names."""

    task: Task
    model: torch.nn.Module
    weights: str
    """``last`` or ``best``."""


def load(
    run: str | Path = "latest", weights: str | None = None, output_dir: str | Path = "outputs"
) -> Task:
    """The trained task of a run; see :func:`load_run`."""
    return load_run(find_run(str(run), Path(output_dir)), weights).task


def load_run(folder: RunFolder, weights: str | None = None, trusted: bool = False) -> Loaded:
    """The trained task and network of a run, without its data.

    ``weights`` is ``last`` or ``best``; None takes those that the run was tested with. The same
    limits on packages hold as for :func:`resume`, unless the run is ``trusted``: trained by who
    calls. Raises :class:`UserError` where there are no such weights.
    """
    with runtime.generators_kept():  # initial weights are drawn, then replaced
        chosen = tested_weights(folder) if weights is None else weights
        return Loaded(*_load(folder, chosen, None if trusted else allowed_packages()), chosen)


def tested_weights(folder: RunFolder) -> str:
    """Which weights a run was tested with, ``last`` or ``best``; ``last`` where it was not."""
    found = folder.summary().get("weights", "last")
    if found not in ("last", "best"):
        raise UserError(f"{folder.path / SUMMARY}: weights is last or best, not {found!r}.")
    return found


def _load(
    folder: RunFolder, weights: str, packages: frozenset[str] | None
) -> tuple[Task, torch.nn.Module]:
    config, spec = read_config(folder), spec_of_run(folder)
    path = own(folder.path, f"checkpoints/{weights}.pt")
    try:
        with no_larger_than(path):
            node = config.get("model", {})
            model = plan(node, torch.nn.Module, "model", {}, packages, spec).make()
            given = {"model": model}
            task = plan(config.get("task", {}), Task, "task", given, packages, spec).make()
        modifiers = [
            *_modifiers_of_phases(config, packages, spec),
            *(
                plan(node, Modifier, f"modifiers.{name}", {}, packages, spec).make()
                for name, node in _modifiers(config).items()
            ),
        ]
        for modifier in modifiers:
            modifier.attach(task)
    except ValueError as error:
        raise UserError(f"{folder.path / CONFIG}: {error}") from error
    state = checkpoint.load(path, run=folder.summary().get(ID, ""))
    checkpoint.load_weights(task, state["task"], path)
    # best.pt holds the weights as they were evaluated: there are no others in it.
    acting = modifiers if "modifiers" in state else []
    with checkpoint.fitting(path):
        for modifier, modified in zip(acting, state.get("modifiers", ()), strict=True):
            modifier.start(groups_of(task))
            modifier.load_state_dict(modified)
    with evaluation_weights(acting):
        evaluated = task.state_dict()
        evaluated.update({name: value.clone() for name, value in evaluated.items()})
    task.load_state_dict(evaluated)
    for modifier in modifiers:
        modifier.finish(task)
    return task.eval(), model


@contextlib.contextmanager
def no_larger_than(path: Path) -> Iterator[None]:
    """While inside, no network is built that is larger than the checkpoint ``path``.

    A config of a few lines can ask for more than there is of memory; its weights cannot.
    """
    size = checkpoint.size_of(path) if path.exists() else available_memory()
    with network_within(size + SLACK):
        yield


def reader_of_run(
    run: str | Path = "latest", output_dir: str = "outputs", trusted: bool = False
) -> Reader:
    """What reads new examples as the run's were read. The data is not needed.

    ``trusted`` as of :func:`load_run`.
    Raises :class:`UserError` where there is no such run, or its data has no examples to read.
    """
    folder = find_run(str(run), Path(output_dir))
    require_current(folder)
    # What it reads by, such as a vocabulary, lies beside it.
    checksums.require_listed(folder.path, GROWING, every=False)
    node, given = folder.read_json(READER), {"folder": folder.path}
    packages = None if trusted else allowed_packages()
    if not node:
        raise UserError(f"{folder.path}: the data of this run has no new examples to be read.")
    try:
        return plan(node, Reader, "reader", given, packages).make()
    except (ValueError, TypeError, OSError) as error:
        raise UserError(f"{folder.path / READER}: {error}") from error


def spec_of_run(folder: RunFolder) -> DataSpec:
    """What the data of a run is. Raises :class:`UserError` where its folder does not tell."""
    require_current(folder)
    try:
        return DataSpec.from_json(folder.read_json(SPEC))
    except (KeyError, TypeError, AttributeError, AssertionError) as error:
        raise UserError(f"{folder.path / SPEC} does not tell what the data is.") from error


def require_current(folder: RunFolder) -> None:
    """Raise :class:`UserError` for a run folder of an earlier version."""
    if not (folder.path / SPEC).is_file():
        raise UserError(
            f"{folder.path} has no {SPEC}: an earlier version of dltrain wrote this run, in a "
            "format that this one does not read. Use that version, or train again."
        )


def read_config(folder: RunFolder) -> dict[str, Any]:
    """The config that a run was trained by. Raises :class:`UserError` where there is none."""
    path = folder.path / CONFIG
    try:
        text = folder.read(CONFIG, LARGEST).decode()
        config = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        # A few lines can name one another a billion times: whatever walks through them has no end.
        require_few(config, CONFIG)
    except UserError:
        raise
    # ValueError: no UTF-8, or a date that is none.
    except (ValueError, RecursionError, yaml.YAMLError, Unreadable) as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read: {why}") from error
    if not isinstance(config, dict):
        raise UserError(f"{path} is not the config of a run.")
    return config


def _modifiers(config: Mapping[str, Any]) -> Mapping[str, Any]:
    found = config.get("modifiers", {})
    if not isinstance(found, Mapping):
        raise ConfigError([Fault("modifiers", "this group is missing from the config.")])
    return found


def _modifiers_of_phases(
    config: Mapping[str, Any], packages: frozenset[str] | None, spec: DataSpec
) -> Sequence[Modifier]:
    """What a plan of phases adds, where the run has one."""
    node = config.get("federated")
    if node is None:
        return ()
    return plan(node, Plan, "federated", {}, packages, spec).make().modifiers


def allowed_packages() -> frozenset[str]:
    """Where the classes of a config that nobody typed may come from."""
    return OWN_PACKAGES | offered() | named()
