"""One run at a time makes a file that several want."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from filelock import FileLock


def lock_for(path: Path) -> FileLock:
    """The lock of all processes that would make ``path``.

    It lies elsewhere, so that one that fails leaves nothing beside the data.
    """
    home = os.path.expanduser("~")  # noqa: PTH111 - pathlib's raises where there is none
    key = hashlib.sha256(os.fsencode(f"{home}:{path.absolute()}")).hexdigest()[:16]
    return FileLock(Path(tempfile.gettempdir()) / f"dltrain-{key}.lock")
