"""Begin with the weights of another run, or of a file, as far as they fit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.errors import UserError
from dltrain.runs.folder import LATEST
from dltrain.runs.load import load, spec_of_run
from dltrain.runs.newest import newest_run
from dltrain.tensor_files import read_tensors, reason

logger = logging.getLogger(__name__)

LISTED = 8
"""Tensors that did not fit which are named."""


def init_from(task: nn.Module, spec: DataSpec, source: str, output_dir: Path) -> None:
    """Give ``task`` those tensors of ``source`` whose name and shape are the same; tell the rest.

    ``source`` is a run, with the weights that it was tested with, or a file of tensors by name; of
    a folder of runs it is the newest that has finished.
    Where all names there begin with a part that is missing here, or the other way (``network.``),
    they are compared without it. Raises :class:`UserError` where nothing fits.
    """
    path = Path(source).expanduser()
    if path.is_file() and path.name != LATEST:
        theirs = _tensors_of_file(path)
    else:
        folder = newest_run(source, output_dir)
        theirs = load(folder.path).state_dict()
        _warn_of_other_names(spec, spec_of_run(folder), source)
    own = task.state_dict()
    pairs = _matched(own, theirs)
    taken = {name: value for name, value in pairs.items() if _shape(own[name]) == _shape(value)}
    if not any(own[name].is_floating_point() for name in taken):
        raise UserError(
            f"init_from: no tensor of {source} has the name and the shape of one of this network; "
            f"it has {_listed(theirs)}; here there are {_listed(own)}."
        )
    with torch.no_grad():
        for name, value in taken.items():
            own[name].copy_(value)
    left = [
        f"{name} ({_shape(value)}" + (f", there {_shape(pairs[name])})" if name in pairs else ")")
        for name, value in own.items()
        if name not in taken
    ]
    rest = f"; begun anew: {_listed(left)}" if left else ""
    logger.info(f"init_from: {len(taken)} of {len(own)} tensors are those of {source}{rest}.")
    matched = {id(value) for value in pairs.values()}
    unused = [f"{n} ({_shape(value)})" for n, value in theirs.items() if id(value) not in matched]
    if unused:
        told = f"{len(unused)} tensors of {source} have no counterpart here: {_listed(unused)}"
        logger.info(f"init_from: {told}.")


def _tensors_of_file(path: Path) -> dict[str, Tensor]:
    """Tensors by name, which may lie one mapping deep."""
    try:
        content: Any = read_tensors(path)
    except MemoryError:
        raise
    except Exception as error:  # torch's unpickler lets through whatever a damaged file makes of it
        raise UserError(
            f"init_from: {path} is no file of torch's weights: {reason(error)}."
        ) from error
    within = content.values() if isinstance(content, Mapping) else ()
    for found in (content, *within):
        if isinstance(found, Mapping) and found and all(map(_is_tensor, found.values())):
            return {str(name): value for name, value in found.items()}
    raise UserError(f"init_from: {path} holds something else than tensors by name.")


def _matched(own: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Theirs by our names, with the beginnings left out that match the most."""
    best: dict[str, Tensor] = {}
    most = 0
    for there in _common_beginnings(theirs):
        for here in sorted({b for name in own for b in _beginnings(name)}, key=len):
            found = {
                name: value
                for key, value in theirs.items()
                if (name := here + key.removeprefix(there)) in own
            }
            fits = sum(_shape(own[name]) == _shape(value) for name, value in found.items())
            if fits > most:
                best, most = found, fits
    return best


def _beginnings(name: str) -> list[str]:
    """``a.b.c`` may begin with nothing, ``a.`` and ``a.b.``."""
    parts = name.split(".")[:-1]
    return ["".join(f"{part}." for part in parts[:length]) for length in range(len(parts) + 1)]


def _common_beginnings(names: Iterable[str]) -> list[str]:
    """Those that all names share."""
    first, *rest = names
    return [b for b in _beginnings(first) if all(name.startswith(b) for name in rest)]


def _warn_of_other_names(own: DataSpec, theirs: DataSpec, source: str) -> None:
    """Tensors are matched by place, and a place may have meant another word or class."""
    for name, field in own.fields.items():
        other = theirs.fields.get(name)
        if other is not None and len(other.names) == len(field.names) != 0:
            differing = sum(a != b for a, b in zip(other.names, field.names, strict=True))
            if differing:
                logger.warning(
                    f"init_from: {differing} of {len(field.names)} names of the {name} are others "
                    f"in {source}, in that order: weights of those are of other things."
                )


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "1"


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(found[:LISTED]) + more
