"""Checkpoints: tensors and primitives only, so that reading one can run no code.

A checkpoint is the zip file that ``torch.save`` makes, in which each part has a CRC-32. torch does
not look at them; :func:`load` does. It tells which of a run's checkpoints it is, and of which run.
Tensors that are divided among ranks lie in files beside it, see :mod:`dltrain.runs.parts`.
"""

from __future__ import annotations

import logging
import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dltrain.engine.parallel.ranks import Ranks
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
DIVIDED = 3
"""The format of one some of whose tensors lie in files beside it."""
INDEX = "divided"
"""The key under which such a one says where they are."""

ABOUT = ("format", "file", "run")
"""What stands before a run's state: the format, which of its checkpoints it is, which run's."""


def save(
    folder: RunFolder, name: str, state: Mapping[str, Any], ranks: Ranks | None = None
) -> None:
    """Write ``state`` to ``name`` in the run folder: temporary file, fsync, rename.

    All ``ranks`` save together; each writes what it alone has of a tensor, and rank 0 the rest.
    Raises :class:`UserError` for what :func:`load` would refuse.
    """
    ranks = ranks or Ranks()
    divided = ranks.divided_in(state)
    about = dict(zip(ABOUT, (FORMAT, Path(name).name, folder.identity), strict=True))
    if divided:
        from dltrain.runs import parts  # torch's package takes a second to import

        index = parts.write(folder.path, ranks.told(secrets.token_hex(8)), divided)
        state = {**_with(state, dict.fromkeys(divided)), INDEX: index}
        about["format"] = DIVIDED
    _require_plain(dict(state), name)
    folder.write(name, lambda file: torch.save({**about, **state}, file))
    if ranks.first:
        _remove_parts(folder)


def save_last(folder: RunFolder, state: Mapping[str, Any], ranks: Ranks | None = None) -> None:
    """Write the last checkpoint; the one that was the last becomes the previous one."""
    folder.keep(LAST, PREVIOUS)
    save(folder, LAST, state, ranks)
    folder.remove(INITIAL)


def remove(folder: RunFolder, name: str) -> None:
    """Remove a checkpoint, if it is there."""
    folder.remove(name)
    _remove_parts(folder)


def resumable(
    folder: RunFolder, device: torch.device, ranks: Ranks | None = None, divided: bool = False
) -> dict[str, Any] | None:
    """The newest whole checkpoint of a run that goes on; None where it was killed before its first.

    ``divided`` as of :func:`load`. ``ranks`` read together, and agree on which it is. One that is
    damaged is named. Raises :class:`UserError` where no other is whole.
    """
    ranks = ranks or Ranks()
    damaged: list[str] = []
    for name in (LAST, PREVIOUS):
        path = own(folder.path, name)
        if not ranks.found(path.exists):
            continue
        state, fault = None, ""
        try:
            state = load(path, device, folder.identity, divided, (ranks.rank, ranks.world))
        except Damaged as error:
            fault = str(error)
        faults = [told for told in ranks.gathered(fault) if told]
        if faults:
            damaged.append(faults[0])
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


def size_of(path: Path) -> int:
    """Bytes of a checkpoint and of all parts beside it, which may be some more than its own."""
    beside = path.parent.glob("*.parts/*.pt")
    return sum(file.lstat().st_size for file in (path, *beside))


class Damaged(UserError):
    """A checkpoint that is not what a run wrote."""


def load(
    path: Path,
    device: torch.device | str = "cpu",
    run: str = "",
    divided: bool = False,
    checks: tuple[int, int] = (0, 1),
) -> dict[str, Any]:
    """Read a checkpoint onto ``device``: of the run ``run``, where that is given.

    Tensors that lie in parts are put together; where ``divided``, each is a
    :class:`dltrain.engine.parallel.stored.Stored` instead, and of the files with parts those are
    checked that are ``checks[0]``'s of ``checks[1]`` ranks.

    Raises :class:`UserError` if it is missing, damaged, of another run or format, or holds
    anything but tensors and primitives.
    """
    while True:
        state = _load(path, device, run)
        index = state.pop(INDEX, None) if state["format"] == DIVIDED else None
        if index is None:
            return state
        try:
            return _with_parts(state, path, index, device, None if not divided else checks)
        except FileNotFoundError as error:
            # A run that goes on replaces its best checkpoint, and removes the parts of the former.
            if _index(path) == index:
                raise Damaged(f"{path} lacks a part: {error.filename} does not exist.") from error


def _with_parts(
    state: dict[str, Any],
    path: Path,
    index: Any,
    device: torch.device | str,
    checks: tuple[int, int] | None,
) -> dict[str, Any]:
    """``state`` with the tensors of ``index``: all of each, unless there are ``checks`` alone."""
    from dltrain.runs.parts import Parts

    try:
        parts = Parts(path.parent.parent, index)
        parts.require_whole(*checks or (0, 1))
        found = {
            where: stored.whole(device) if checks is None else stored
            for where, stored in parts.tensors.items()
        }
        return dict(_with(state, found))
    except (UserError, FileNotFoundError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # as in _load
        raise Damaged(f"{path} cannot be read as a checkpoint: {reason(error)}.") from error


def _with(state: Any, found: Mapping[tuple[Any, ...], Any]) -> Any:
    """``state`` with what is ``found``, by the keys that lead to it, in place of what is there."""
    if () in found:
        return found[()]
    inner: dict[Any, dict[tuple[Any, ...], Any]] = {}
    for (key, *rest), value in found.items():
        inner.setdefault(key, {})[tuple(rest)] = value
    changed = {key: _with(state[key], values) for key, values in inner.items()}
    if isinstance(state, Mapping):
        return {**state, **changed}
    return [changed.get(number, value) for number, value in enumerate(state)]


def _index(path: Path) -> Any:
    """Where the divided tensors of the checkpoint ``path`` lie; None of one that has none."""
    state = read_tensors(path) if path.exists() else None
    return state.get(INDEX) if isinstance(state, Mapping) else None


def _remove_parts(folder: RunFolder) -> None:
    """Remove the parts that no checkpoint names, once another has taken its place."""
    there = list((folder.path / "checkpoints").glob("*.parts"))
    if not there:
        return
    named = set()
    for name in (LAST, PREVIOUS, BEST):
        try:
            index = _index(folder.path / name)
        except Exception:  # whatever a damaged file makes of it: its parts may be whole
            return
        named.add(index["name"] if index is not None else "")
    for path in there:
        if path.stem not in named:
            folder.remove(path.relative_to(folder.path).as_posix())


def _load(path: Path, device: torch.device | str, run: str) -> dict[str, Any]:
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
    if state["format"] not in (FORMAT, DIVIDED):
        raise UserError(
            f"{path} is a checkpoint of format {state['format']}, and this version of dltrain "
            f"reads format {FORMAT} and {DIVIDED}. Use the version that wrote it, or train again."
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
