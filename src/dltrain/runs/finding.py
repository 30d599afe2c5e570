"""Which run is meant: a path, a part of a name, or the latest. No torch here: a query asks this."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from dltrain import files
from dltrain.errors import UserError
from dltrain.runs.folder import CONFIG, LATEST, SUMMARY, RunFolder, known_status, shortest

LISTED = 5
"""Runs that are named where one was not found."""


def find_run(run: str, output_dir: Path) -> RunFolder:
    """The folder of ``run``: its path, or ``latest`` for the newest in ``output_dir``.

    The path of a file ``latest`` means the run that it points at, that of a folder in which there
    is one run means that one. What is no path may be a part of ``name/time`` that one run in
    ``output_dir`` has and no other. Raises :class:`UserError` where there is no such run, or more
    than one.
    """
    path = Path(run).expanduser()
    if run == LATEST:
        path = latest(output_dir.expanduser())
    elif path.name == LATEST and (path.is_file() or path.is_symlink()):
        path = latest(path.parent)
    if not (path / CONFIG).is_file() and not path.exists():
        path = _by_part(run, output_dir.expanduser()) or path
    if not (path / CONFIG).is_file():
        inside = [file.parent for file in path.glob(f"*/{CONFIG}")]
        if len(inside) > 1:
            raise UserError(f"{run} is a folder of {_which_of(inside)}")
        if inside:
            return RunFolder(shortest(inside[0].resolve()))
        what = "is not a run folder (it has no config.yaml)" if path.exists() else "does not exist"
        raise UserError(
            f"{run} {what}. Give the path that the run printed, a part of it, or {LATEST!r}."
            f"{listed(output_dir.expanduser())}"
        )
    return RunFolder(shortest(path.resolve()))


def latest(output_dir: Path) -> Path:
    """The absolute path of the newest run in ``output_dir``.

    The file ``output_dir/latest`` has it, relative to ``output_dir``, in one line. It is no link:
    what walks through ``output_dir``, such as TensorBoard, would find the newest run twice.
    Links that earlier versions of dltrain made are read too.

    Raises :class:`UserError` where there was no run yet, or the newest one is gone.
    """
    pointer = output_dir / LATEST
    if not os.path.lexists(pointer):
        raise UserError(f"There is no run in {output_dir} yet.{listed(output_dir)}")
    path = _pointed_at(pointer)
    if not path.exists():
        raise UserError(
            f"The newest run in {output_dir} is gone: there is no {shortest(path)}. "
            f"Give the path of another run.{listed(output_dir)}"
        )
    return path


def listed(output_dir: Path) -> str:
    """Lines with the newest runs in ``output_dir`` and their status; empty where there are none.

    They begin with a line break: they follow a message that a run was not found.
    """
    newest = sorted(
        (file.parent for file in output_dir.glob(f"*/*/{CONFIG}")),
        key=lambda folder: (folder.name, folder.stat().st_mtime),
        reverse=True,
    )[:LISTED]
    if not newest:
        return ""
    lines = [f"  {shortest(folder)}  {_status(folder)}" for folder in newest]
    return "\n".join([f"\nThe newest runs in {output_dir}:", *lines])


def _status(folder: Path) -> str:
    try:
        summary = json.loads(files.read_within(folder, SUMMARY))
        return known_status(folder, summary["status"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "unreadable"


def _by_part(part: str, output_dir: Path) -> Path | None:
    """The run in ``output_dir`` with ``part`` in its ``name/time``; None where none has it."""
    found = [
        file.parent
        for file in output_dir.glob(f"*/*/{CONFIG}")
        if part and part in file.parent.relative_to(output_dir).as_posix()
    ]
    # Of two runs of one second the later one's name begins with that of the first; so it is with
    # vae and ae.
    wholes = {f: (f.name, f.parent.name, f.relative_to(output_dir).as_posix()) for f in found}
    exact = [folder for folder, names in wholes.items() if part in names]
    found = exact or found
    if len(found) > 1:
        raise UserError(f"{part} is a part of {_which_of(found)}")
    return found[0] if found else None


def _which_of(found: Sequence[Path]) -> str:
    """How many runs there are, and the newest of them."""
    newest = sorted(found, key=lambda folder: folder.name, reverse=True)
    lines = "".join(f"\n  {shortest(folder)}" for folder in newest[:LISTED])
    more = f"\n  and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return f"{len(found)} runs. Which one?{lines}{more}"


def _pointed_at(pointer: Path) -> Path:
    """The absolute path of what ``pointer``, a file or a link, points at; it may not exist."""
    try:
        if pointer.is_symlink():
            return pointer.resolve()
        return (pointer.parent / files.read_text(pointer).strip()).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # links in a circle, a zero byte
        raise UserError(f"{pointer} cannot be read as the path of a run: {error}.") from error
