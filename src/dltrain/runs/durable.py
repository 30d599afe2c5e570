"""Files that are there after a power cut, whole or as they were before.

A file is written to a temporary one beside it, flushed to the disk, and renamed; then its folder is
flushed, which is what keeps the new name.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

SUFFIX = ".tmp"
"""What the names of temporary files end in; they begin with a dot."""
ABANDONED = 3600
"""Seconds after which a temporary file that any process may have written is nobody's."""


def write_whole(path: Path, fill: Callable[[BinaryIO], object], sync: bool = True) -> None:
    """Have ``fill`` write the file ``path``: it is there whole, or not at all.

    Without ``sync`` a power cut may leave an empty one, until :func:`sync_file`. Raises
    :class:`OSError`, also where ``fill`` made another error of it, as ``torch.save`` does.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=SUFFIX)
    try:
        with _told(handle) as file:
            fill(file)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if sync:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Flush what ``path`` holds to the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _told(handle: int) -> Iterator[BinaryIO]:
    """The file ``handle``. Where writing it failed, that is the error, whatever came of it."""
    failures: list[OSError] = []

    class File(io.FileIO):
        def write(self, data: Any) -> int:
            """As ever; an error of the disk is kept."""
            try:
                return super().write(data)
            except OSError as error:
                failures.append(error)
                raise

    try:
        with io.BufferedWriter(File(handle, "wb")) as file:
            yield file
    except OSError:
        raise
    except Exception as error:
        if failures:
            raise failures[0] from error
        raise


def sync_folder(folder: Path) -> None:
    """Flush which names ``folder`` has. Not every system can, nor every file system."""
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES):
            raise
    finally:
        os.close(handle)


def remove_temporaries(folder: Path, prefix: str = ".", older: float = 0) -> None:
    """Remove what a process that was killed has left of a file it was writing in ``folder``."""
    now = time.time()
    for path in folder.glob(f"{prefix}*{SUFFIX}"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and now - found.st_mtime >= older:
                path.unlink()
