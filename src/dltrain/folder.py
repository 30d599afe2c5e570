"""The run folder: a public format that other tools read. No torch here: listing must be quick."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from dltrain.errors import UserError

LATEST = "latest"


class RunFolder:
    """One run's files: every write is atomic, so a reader never sees half of one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / ".lock")

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
        """The folder of ``run``: a path, or ``latest`` in ``output_dir``.

        Raises :class:`UserError` if there is none.
        """
        path = output_dir / LATEST if run == LATEST else Path(run).expanduser()
        if not path.exists() and run == LATEST:
            raise UserError(f"There is no run in {output_dir} yet.")
        if not (path / "config.yaml").is_file():
            what = (
                "is not a run folder (it has no config.yaml)" if path.exists() else "does not exist"
            )
            raise UserError(f"{run} {what}. Give the path that the run printed, or {LATEST!r}.")
        # The link may move while this run goes on; its folder does not.
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
        """Write a JSON file, whole or not at all."""
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file; raises :class:`UserError` where that is impossible."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{self.path / name} cannot be read: {error}.") from error

    def write(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        """Have ``fill`` write the file ``name`` to a temporary one, fsync it and rename it."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
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


def _point_latest_at(path: Path, link: Path) -> None:
    temporary = link.with_name(f".{LATEST}.{os.getpid()}")
    try:
        temporary.symlink_to(os.path.relpath(path, link.parent), target_is_directory=True)
        temporary.replace(link)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        # Windows gives links to administrators only; the run itself needs none.
        print(f"note: {link} could not be pointed at the new run: {error.strerror}")


def _shortest(path: Path) -> Path:
    """``path`` as seen from here, when that is shorter to read and to type."""
    try:
        relative = Path(os.path.relpath(path))
    except ValueError:  # another drive
        return path
    return relative if len(str(relative)) < len(str(path.absolute())) else path
