"""The run folder: a public format that other tools read. No torch here: listing must be quick."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from dltrain.errors import UserError

LATEST = "latest"
"""The newest run, on the command line; and the file in ``output_dir`` that says which it is."""
CONFIG = "config.yaml"
"""What makes a folder that of a run."""
LOCK = ".lock"
"""The file of a run folder that a process holds locked while it trains."""
RUNNING, INTERRUPTED = "running", "interrupted"
"""The status of a run that is being trained; of one that a signal or a kill has ended."""
LISTED = 5
"""Runs that are named where one was not found."""

_log = logging.getLogger(__name__)


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
            f"The newest run in {output_dir} is gone: there is no {_shortest(path)}. "
            f"Give the path of another run.{listed(output_dir)}"
        )
    return path


def listed(output_dir: Path) -> str:
    """Lines with the newest runs in ``output_dir`` and their status; empty where there are none.

    They begin with a line break: they follow a message that a run was not found.
    """
    newest = sorted(
        (file.parent for file in output_dir.glob("*/*/summary.json")),
        key=lambda folder: (folder.name, folder.stat().st_mtime),
        reverse=True,
    )[:LISTED]
    if not newest:
        return ""
    lines = [f"  {_shortest(folder)}  {_status(folder)}" for folder in newest]
    return "\n".join([f"\nThe newest runs in {output_dir}:", *lines])


def known_status(folder: Path, status: object) -> str:
    """``status`` as ``summary.json`` has it; of a run that no process trains now, as it must be."""
    return INTERRUPTED if status == RUNNING and not is_held(folder) else str(status)


def _status(folder: Path) -> str:
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return known_status(folder, summary["status"])
    except (OSError, ValueError, KeyError, TypeError):
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
        newest = sorted(found, key=lambda folder: folder.name, reverse=True)
        lines = "".join(f"\n  {_shortest(folder)}" for folder in newest[:LISTED])
        more = f"\n  and {len(found) - LISTED} more" if len(found) > LISTED else ""
        raise UserError(f"{part} is a part of {len(found)} runs. Which one?{lines}{more}")
    return found[0] if found else None


def is_held(path: Path) -> bool:
    """Whether a process has claimed the run folder ``path``; where nobody can tell, yes.

    It only looks: nothing is written, whatever ``.lock`` is, and a second look may happen at once.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return True
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(path / LOCK, flags)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # somebody else has, or the file system has no locks
        return True
    finally:
        os.close(handle)
    return False


class RunFolder:
    """One run's files: every write is atomic, so a reader never sees half of one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / LOCK)

    @classmethod
    def create(cls, output_dir: Path, name: str) -> RunFolder:
        """Make ``output_dir/name/<time>``, which no other run has or gets, and hold it."""
        parent = output_dir / name
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        try:
            parent.mkdir(parents=True, exist_ok=True)
            path = _create_exclusively(parent, stamp)
            (path / "checkpoints").mkdir()
            (path / "figures").mkdir()
        except OSError as error:
            raise UserError(
                f"output_dir: cannot create a run in {parent}: {error.strerror}."
            ) from error
        folder = cls(path)
        folder.hold()
        _point_latest_at(path, output_dir / LATEST)
        return folder

    @classmethod
    def find(cls, run: str, output_dir: Path) -> RunFolder:
        """The folder of ``run``: its path, or ``latest`` for the newest in ``output_dir``.

        The path of a file ``latest`` means the run that it points at. What is no path may be a part
        of ``name/time`` that one run in ``output_dir`` has and no other. Raises :class:`UserError`
        where there is no such run, or more than one.
        """
        path = Path(run).expanduser()
        if run == LATEST:
            path = latest(output_dir.expanduser())
        elif path.name == LATEST and (path.is_file() or path.is_symlink()):
            path = latest(path.parent)
        if not (path / CONFIG).is_file() and not path.exists():
            path = _by_part(run, output_dir.expanduser()) or path
        if not (path / CONFIG).is_file():
            what = (
                "is not a run folder (it has no config.yaml)" if path.exists() else "does not exist"
            )
            raise UserError(
                f"{run} {what}. Give the path that the run printed, a part of it, or {LATEST!r}."
                f"{listed(output_dir.expanduser())}"
            )
        return cls(_shortest(path.resolve()))

    def hold(self) -> None:
        """Claim the folder for this process, until it ends in whatever way."""
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise UserError(f"{self.path} is still running in another process.") from None

    def release(self) -> None:
        """Let others claim the folder."""
        self._lock.release()

    def write_text(self, name: str, text: str) -> None:
        """Write a small text file, whole or not at all."""
        self.write(name, lambda file: file.write(text.encode()))

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a JSON file, whole or not at all.

        JSON knows finite numbers alone. Any other is null, and the key ``not_finite`` tells where
        it stands (``test.loss``) and what it was (``nan``).
        """
        words: dict[str, str] = {}
        content = _finite(content, "", words) | ({"not_finite": words} if words else {})
        self.write_text(name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def write_table(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write lines as the file ``name``.csv, under the names of all that any of them has."""
        names = list(dict.fromkeys(name for line in lines for name in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        (self.path / name).parent.mkdir(exist_ok=True)
        self.write_text(f"{name}.csv", text.getvalue())

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON object; raises :class:`UserError` where that is impossible."""
        try:
            content = json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise UserError(f"{self.path / name} cannot be read: {error}.") from error
        if not isinstance(content, dict):
            raise UserError(f"{self.path / name} cannot be read: it is no JSON object.")
        return content

    def write(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        """Have ``fill`` write the file ``name`` to a temporary one, fsync it and rename it."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        _write_whole(path, fill)


def _finite(value: Any, place: str, words: dict[str, str]) -> Any:
    """``value`` with null for numbers that are not finite, which are told in ``words``."""
    if isinstance(value, Mapping):
        return {k: _finite(v, f"{place}.{k}".lstrip("."), words) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v, f"{place}[{n}]", words) for n, v in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        words[place] = str(value)
        return None
    return value


def _write_whole(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _create_exclusively(parent: Path, stamp: str) -> Path:
    for attempt in range(1, 10_000):
        path = parent / (stamp if attempt == 1 else f"{stamp}_{attempt}")
        try:
            path.mkdir()
        except FileExistsError:
            continue
        return _shortest(path)
    raise UserError(f"output_dir: {parent} already has ten thousand runs of {stamp}.")


def _point_latest_at(path: Path, pointer: Path) -> None:
    line = f"{Path(os.path.relpath(path, pointer.parent)).as_posix()}\n"
    try:
        _write_whole(pointer, lambda file: file.write(line.encode()))
    except OSError as error:  # a folder of that name, say; the run itself needs no pointer
        _log.warning("%s could not be pointed at the new run: %s.", pointer, error.strerror)


def _pointed_at(pointer: Path) -> Path:
    """The absolute path of what ``pointer``, a file or a link, points at; it may not exist."""
    try:
        if pointer.is_symlink():
            return pointer.resolve()
        return (pointer.parent / pointer.read_text(encoding="utf-8").strip()).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # links in a circle, a zero byte
        raise UserError(f"{pointer} cannot be read as the path of a run: {error}.") from error


def _shortest(path: Path) -> Path:
    """``path`` as seen from here, when that is shorter to read and to type."""
    try:
        relative = Path(os.path.relpath(path))
    except ValueError:  # another drive
        return path
    return relative if len(str(relative)) < len(str(path.absolute())) else path
