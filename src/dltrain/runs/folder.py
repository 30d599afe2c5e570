"""The run folder: a public format that other tools read. No torch here: listing must be quick."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
import math
import os
import secrets
import shlex
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from dltrain import files
from dltrain.errors import FULL, UserError
from dltrain.runs import checksums, durable

LATEST = "latest"
"""The newest run, on the command line; and the file in ``output_dir`` that says which it is."""
CONFIG = "config.yaml"
"""What makes a folder that of a run."""
SUMMARY = "summary.json"
"""How far a run is, and what came of it; carries its own checksum."""
LOCK = ".lock"
"""The file of a run folder that a process holds locked while it trains."""
UNPUBLISHED = 60
"""Seconds after which the folder of a run that has no name yet, and that nobody holds, is left."""
RUNNING, INTERRUPTED = "running", "interrupted"
"""The status of a run that is being trained; of one that a signal or a kill has ended."""

_log = logging.getLogger(__name__)


def known_status(folder: Path, status: object) -> str:
    """``status`` as ``summary.json`` has it; of a run that no process trains now, as it must be."""
    return INTERRUPTED if status == RUNNING and not is_held(folder) else str(status)


def is_held(path: Path) -> bool:
    """Whether a process has claimed the run folder ``path``; where nobody can tell, yes.

    It only looks: nothing is written, whatever ``.lock`` is, and a second look may happen at once.
    """
    return is_locked(path / LOCK)


def is_locked(file: Path) -> bool:
    """Whether a process holds ``file`` locked; see :func:`is_held`."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        return True
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(file, flags)
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
        self.identity = ""
        """What tells this run from others, where that is known; its checkpoints have it too."""
        self._lock = FileLock(path / LOCK)

    @classmethod
    def create(cls, output_dir: Path, name: str) -> RunFolder:
        """Make a folder in ``output_dir/name`` that no other run has, and hold it.

        Its name begins with a dot and ends in ``.tmp`` until :meth:`publish`: what a process leaves
        that is killed before is no run, and removed with the next.
        """
        parent = output_dir / name
        try:
            parent.mkdir(parents=True, exist_ok=True)
            remove_unpublished(parent)
            path = unpublished(parent)
            (path / "checkpoints").mkdir()
            (path / "figures").mkdir()
        except OSError as error:
            raise UserError(
                f"output_dir: cannot create a run in {parent}: {error.strerror}."
            ) from error
        folder = cls(path)
        folder.hold()
        return folder

    @property
    def published(self) -> bool:
        """Whether it has its name, and whatever makes it a run."""
        return self.path.suffix != durable.SUFFIX

    def publish(self, output_dir: Path) -> None:
        """Give a folder that was made by :meth:`create` its name, ``output_dir/name/<time>``.

        No other run has it. ``latest`` then means this one.
        """
        stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
        # The file system of Windows renames no folder with an open file in it.
        self._lock.release()
        self.path = renamed_exclusively(self.path, stamp)
        self._lock = FileLock(self.path / LOCK)
        self._lock.acquire(timeout=0)
        for made in (self.path, self.path.parent, output_dir):
            durable.sync_folder(made)
        _point_latest_at(self.path, output_dir / LATEST)

    def discard(self) -> None:
        """Remove a folder that has not been published."""
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)

    def hold(self) -> None:
        """Claim the folder for this process, until it ends in whatever way.

        What an earlier one was writing when it was killed is removed.
        """
        files.require_plain(self.path)
        files.own(self.path, LOCK, written=True)
        with room_for(self):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                raise UserError(f"{self.path} is still running in another process.") from None
        for place in (self.path, *(path for path in self.path.iterdir() if _is_own_folder(path))):
            durable.remove_temporaries(place)

    def release(self) -> None:
        """Let others claim the folder."""
        self._lock.release()

    def place(self, name: str) -> Path:
        """The path of ``name`` in this folder, for files that others write there, by no link."""
        files.require_plain(self.path)
        return self.path / name

    def write_text(self, name: str, text: str) -> None:
        """Write a small text file, whole or not at all."""
        self.write(name, lambda file: file.write(text.encode(errors="backslashreplace")))

    def write_json(self, name: str, content: Mapping[str, Any], sealed: bool = False) -> None:
        """Write a JSON file, whole or not at all; ``sealed``, with a checksum of its own.

        JSON knows finite numbers alone. Any other is null, and the key ``not_finite`` tells where
        it stands (``test.loss``) and what it was (``nan``).
        """
        words: dict[str, str] = {}
        content = _finite(content, "", words) | ({"not_finite": words} if words else {})
        if sealed:
            content = checksums.sealed(content)
        self.write_text(name, json.dumps(content, indent=2, allow_nan=False) + "\n")

    def write_checksums(self, names: Iterable[str] | None = None) -> None:
        """Write down what the files ``names`` are now; None: all that have no checksum inside."""
        wanted = (
            self.file_names() if names is None else [n for n in names if (self.path / n).is_file()]
        )
        self.write_text(checksums.FILE, checksums.of_files(self.path, wanted))

    def sync(self) -> None:
        """Flush every file, and which there are, to the disk."""
        names = self.file_names()
        for name in names:
            durable.sync_file(self.path / name)
        for place in {(self.path / name).parent for name in names}:
            durable.sync_folder(place)

    def file_names(self) -> list[str]:
        """The names of all files but the lock, checkpoints, and those with checksums inside."""
        without = {SUMMARY, checksums.FILE, LOCK}
        names = [
            path.relative_to(self.path).as_posix()
            for path in self.path.rglob("*")
            if path.is_file() and not path.is_symlink() and path.suffix != durable.SUFFIX
        ]
        return [n for n in names if n not in without and not n.startswith("checkpoints/")]

    def write_table(self, name: str, lines: Sequence[Mapping[str, Any]]) -> None:
        """Write lines as the file ``name``.csv, under the names of all that any of them has."""
        names = list(dict.fromkeys(name for line in lines for name in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        self.write_text(f"{name}.csv", text.getvalue())

    def read(self, name: str, largest: int = files.LARGEST) -> bytes:
        """A small file, as the run wrote it.

        Raises :class:`UserError` where it cannot be read, or its checksum says that it is another.
        """
        try:
            content = files.read_within(self.path, name, largest)
        except files.NotAFileError:
            raise
        except OSError as error:
            raise UserError(f"{self.path / name} cannot be read: {error.strerror}.") from error
        checksums.require(self.path, name, content, checksums.read(self.path))
        return content

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON object; raises :class:`UserError` where that is impossible."""
        try:
            content = json.loads(self.read(name))
        except UserError:
            raise
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.path / name} cannot be read: {error}.") from error
        if not isinstance(content, dict):
            raise UserError(f"{self.path / name} cannot be read: it is no JSON object.")
        return content

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says; raises :class:`UserError` where that is damaged."""
        content = self.read_json(SUMMARY)
        if not checksums.is_whole(content, (self.path / checksums.FILE).exists()):
            raise UserError(f"{self.path / SUMMARY} is damaged: its checksum is that of another.")
        content.pop(checksums.OWN, None)
        return content

    def remove(self, name: str) -> None:
        """Remove a file, or a folder of files, if it is there."""
        path = self.path / name
        if _is_own_folder(path):
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def keep(self, name: str, other: str) -> None:
        """Have a file, if it is there, under the name ``other`` too: there is one at any moment."""
        last, previous = self.path / name, self.path / other
        if not last.exists():
            return
        aside = previous.with_name(f".{previous.name}{durable.SUFFIX}")
        aside.unlink(missing_ok=True)
        try:
            os.link(last, aside)
        except OSError:  # a file system without
            last.replace(previous)
        else:
            aside.replace(previous)
            aside.unlink(missing_ok=True)  # where both are one file, renaming does nothing

    def write(self, name: str, fill: Callable[[BinaryIO], object], sync: bool = True) -> None:
        """Have ``fill`` write the file ``name`` to a temporary one, fsync it and rename it.

        Without ``sync`` it is not flushed to the disk; :meth:`sync` does that for all at once.
        Raises :class:`UserError` where the run folder was removed: no other takes its place.
        """
        if not self.path.is_dir():
            raise UserError(
                f"{self.path} is gone: somebody removed or moved it as the run went on."
            )
        durable.write_whole(files.make_room(self.path, name), fill, sync)


class FolderOfAnother(RunFolder):
    """A run folder that another process holds, and writes: this one may read it, and no more."""

    @classmethod
    def create(cls, output_dir: Path, name: str) -> RunFolder:
        """What becomes of that in ``output_dir/name``, of which nobody has told yet."""
        return cls(output_dir / name)

    def release(self) -> None:
        return None

    def publish(self, output_dir: Path) -> None:
        return None

    def discard(self) -> None:
        return None

    def hold(self) -> None:
        return None

    def write_checksums(self, names: Iterable[str] | None = None) -> None:
        return None

    def sync(self) -> None:
        return None

    def remove(self, name: str) -> None:
        return None

    def keep(self, name: str, other: str) -> None:
        return None

    def write(self, name: str, fill: Callable[[BinaryIO], object], sync: bool = True) -> None:
        return None


@contextmanager
def room_for(folder: RunFolder) -> Iterator[None]:
    """While inside, a full disk is a :class:`UserError` that says how to go on with the run."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        command = shlex.join(["dltrain", "resume", str(folder.path)])
        then = f"go on with: {command}" if folder.published else "train again."
        place = folder.path if folder.published else folder.path.parent
        raise UserError(f"{place}: {os.strerror(error.errno)}. Make room, then {then}") from error


def _is_own_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


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


def renamed_exclusively(path: Path, stamp: str) -> Path:
    """Rename a folder that is not empty to the first name of ``stamp`` that no other has."""
    for attempt in range(1, 10_000):
        named = path.with_name(stamp if attempt == 1 else f"{stamp}_{attempt}")
        if os.path.lexists(named):
            continue
        try:
            path.rename(named)
        except OSError:
            if os.path.lexists(named):  # another process was quicker
                continue
            raise
        return shortest(named)
    raise UserError(f"output_dir: {path.parent} already has ten thousand runs of {stamp}.")


def unpublished(parent: Path) -> Path:
    """A new folder in ``parent`` that nobody takes for more before it has another name."""
    path = parent / f".run-{secrets.token_hex(8)}{durable.SUFFIX}"
    path.mkdir()
    return path


def remove_unpublished(parent: Path) -> None:
    """Remove the folders in ``parent`` whose processes were killed before they had a name."""
    for path in parent.glob(f".run-*{durable.SUFFIX}"):
        with contextlib.suppress(OSError):
            old = time.time() - path.lstat().st_mtime > UNPUBLISHED
            if old and not path.is_symlink() and not is_held(path):
                shutil.rmtree(path)


def _point_latest_at(path: Path, pointer: Path) -> None:
    line = f"{Path(os.path.relpath(path, pointer.parent)).as_posix()}\n"
    try:
        durable.remove_temporaries(pointer.parent, f".{LATEST}.", durable.ABANDONED)
        durable.write_whole(pointer, lambda file: file.write(line.encode()))
    except OSError as error:  # a folder of that name, say; the run itself needs no pointer
        _log.warning("%s could not be pointed at the new run: %s.", pointer, error.strerror)


def shortest(path: Path) -> Path:
    """``path`` as seen from here, when that is shorter to read and to type."""
    try:
        relative = Path(os.path.relpath(path))
    except ValueError:  # another drive
        return path
    return relative if len(str(relative)) < len(str(path.absolute())) else path
