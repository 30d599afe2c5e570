"""Checkpoints: tensors and primitives only, so that reading one can run no code."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dltrain.errors import UserError
from dltrain.runs.folder import RunFolder
from dltrain.tensor_files import read_tensors, reason

PLAIN = {int, float, complex, bool, str, bytes, type(None), torch.Size, torch.dtype, torch.device}
LAST = "checkpoints/last.pt"
BEST = "checkpoints/best.pt"
FORMAT = 2
"""Raised with every change of what is in one: another version's is refused in one line."""


def save(folder: RunFolder, name: str, state: Mapping[str, Any]) -> None:
    """Write ``state`` to ``name`` in the run folder: temporary file, fsync, rename.

    Raises :class:`UserError` for what :func:`load` would refuse.
    """
    _require_plain(dict(state), name)
    folder.write(name, lambda file: torch.save({"format": FORMAT, **state}, file))


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint onto ``device``.

    Raises :class:`UserError` if it is missing, damaged, of another format, or holds anything
    but tensors and primitives.
    """
    try:
        state = read_tensors(path, device)
    except FileNotFoundError as error:
        raise UserError(
            f"{path} does not exist: the run ended before its first checkpoint."
        ) from error
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # torch's unpickler lets through whatever a damaged file makes of it
        raise UserError(f"{path} cannot be read as a checkpoint: {reason(error)}") from error
    if not (isinstance(state, dict) and isinstance(state.get("format"), int)):
        raise UserError(f"{path} is not a checkpoint of dltrain.")
    if state["format"] != FORMAT:
        raise UserError(
            f"{path} is a checkpoint of format {state['format']}, and this version of dltrain "
            f"reads format {FORMAT}. Use the version that wrote it, or train again."
        )
    if not isinstance(state.get("task"), Mapping):
        raise UserError(f"{path} is a checkpoint without weights.")
    return state


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
