"""Checkpoints: tensors and primitives only, so that reading one can run no code.

A checkpoint is the zip file that ``torch.save`` makes, in which each part has a CRC-32. torch does
not look at them; :func:`load` does. It tells which of a run's checkpoints it is, and of which run.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dltrain.errors import UserError
from dltrain.files import own
from dltrain.runs.folder import SUMMARY, RunFolder
from dltrain.tensor_files import read_tensors, reason

logger = logging.getLogger(__name__)

PLAIN = {int, float, complex, bool, str, bytes, type(None), torch.Size, torch.dtype, torch.device}
LAST = "checkpoints/last.pt"
PREVIOUS = "checkpoints/previous.pt"
"""The one before the last, until the run has finished: for a last one that is damaged."""
BEST = "checkpoints/best.pt"
INITIAL = "checkpoints/initial.pt"
"""The weights of a run that begins with others than its seed gives, until it has a checkpoint."""
FORMAT = 2
"""Raised with every change of what is in one: another version's is refused in one line."""

ABOUT = ("format", "file", "run")
"""What stands before a run's state: the format, which of its checkpoints it is, which run's."""


def save(folder: RunFolder, name: str, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``name`` in the run folder: temporary file, fsync, rename.

    Raises :class:`UserError` for what :func:`load` would refuse.
    """
    _require_plain(dict(state), name)
    about = dict(zip(ABOUT, (FORMAT, Path(name).name, folder.identity), strict=True))
    folder.write(name, lambda file: torch.save({**about, **state}, file))


def save_last(folder: RunFolder, state: Mapping[str, Any]) -> None:
    """Write the last checkpoint; the one that was the last becomes the previous one."""
    folder.keep(LAST, PREVIOUS)
    save(folder, LAST, state)
    folder.remove(INITIAL)


def resumable(folder: RunFolder, device: torch.device) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run that goes on; None where it was killed before its first.

    One that is damaged is named. Raises :class:`UserError` where no other is whole.
    """
    damaged = []
    for name in (LAST, PREVIOUS):
        path = own(folder.path, name)
        if not path.exists():
            continue
        try:
            state = load(path, device, folder.identity)
        except Damaged as error:
            damaged.append(error)
            continue
        for other in damaged:
            logger.warning(f"{other} Going on from the one before it, {path.name}.")
        return state
    if damaged:
        raise UserError(
            f"{damaged[0]} There is no other to go on from. To begin at step 0, remove "
            f"{folder.path / 'checkpoints'}."
        )
    return None


class Damaged(UserError):
    """A checkpoint that is not what a run wrote."""


def load(path: Path, device: torch.device | str = "cpu", run: str = "") -> dict[str, Any]:
    """Read a checkpoint onto ``device``: of the run ``run``, where that is given.

    Raises :class:`UserError` if it is missing, damaged, of another run or format, or holds
    anything but tensors and primitives.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist: the run ended before its first checkpoint.")
    try:
        state = read_tensors(path, device)
    except (UserError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch's unpickler lets through whatever a damaged file makes of it
        raise Damaged(f"{path} cannot be read as a checkpoint: {reason(error)}.") from error
    if not (isinstance(state, dict) and isinstance(state.get("format"), int)):
        raise UserError(f"{path} is not a checkpoint of dltrain.")
    if state["format"] != FORMAT:
        raise UserError(
            f"{path} is a checkpoint of format {state['format']}, and this version of dltrain "
            f"reads format {FORMAT}. Use the version that wrote it, or train again."
        )
    if not isinstance(state.get("task"), Mapping):
        raise UserError(f"{path} is a checkpoint without weights.")
    _require_its_own(state, path, run)
    return state


def _require_its_own(state: Mapping[str, Any], path: Path, run: str) -> None:
    """Raise :class:`UserError` for a checkpoint of another place, or another run.

    Those of earlier versions do not tell.
    """
    file, own = state.get("file", ""), state.get("run", "")
    expected = Path(LAST).name if path.name == Path(PREVIOUS).name else path.name
    names = {Path(LAST).name, Path(BEST).name}
    if file and path.name in {*names, Path(PREVIOUS).name} and file != expected:
        raise Damaged(f"{path} is no {expected}: it was saved as {file}.")
    if own and run and own != run:
        raise Damaged(
            f"{path} is the checkpoint of another run than {SUMMARY} beside it is of: one of the "
            "two was exchanged."
        )


def without_origin(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state alone, which another run may go on with."""
    return {name: value for name, value in state.items() if name not in ABOUT}


def load_weights(module: nn.Module, weights: Mapping[str, Any], path: Path) -> None:
    """Give ``module`` the ``weights`` that ``path`` holds.

    Raises :class:`UserError`, naming what differs, where they are of another network.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    other = [
        f"{name} is {_shape(weights[name])} there and {_shape(own[name])} here"
        for name in own
        if name in weights and _shape(weights[name]) != _shape(own[name])
    ]
    found = [f"it lacks {name}" for name in missing]
    found += [f"it has {name}, which is not here" for name in unknown]
    found += other
    if found:
        more = f" ({len(found)} such differences)" if len(found) > 1 else ""
        raise UserError(
            f"{path} is of another network than this config makes: {found[0]}{more}. "
            "Use the config and the version of dltrain that it was trained with."
        )
    with fitting(path):
        own.update(weights)  # a layer's version stands beside the weights: mnasnet asks for it
        module.load_state_dict(own)


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """While inside, a state of another shape than what is to load it is a :class:`UserError`."""
    try:
        yield
    except UserError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"{path} does not fit this run's config: {reason}. "
            "Use the config and the version of dltrain that it was trained with."
        ) from error


def _require_plain(value: Any, where: str) -> None:
    """See that a state holds tensors and primitives, in mappings and sequences, alone."""
    if type(value) in (dict, OrderedDict):
        for key, inner in value.items():
            _require_plain(key, f"{where}, a key")
            _require_plain(inner, f"{where}, {key}")
    elif type(value) in (list, tuple, set):
        for number, inner in enumerate(value):
            _require_plain(inner, f"{where}, {number}")
    elif not isinstance(value, torch.Tensor) and type(value) not in PLAIN:
        raise UserError(
            f"{where}: a checkpoint holds tensors and primitives, and this state has a "
            f"{type(value).__name__}. Give a number, a text or a tensor instead."
        )


def _shape(value: Any) -> str:
    return "x".join(map(str, value.shape)) if hasattr(value, "shape") else type(value).__name__
