"""A disk that fills up at a given write, or that remembers all writes: scripts/disk.c by ctypes.

The library has to be there before anything else: :func:`with_disk` compiles it and begins the
script anew.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import forks

SOURCE = Path(__file__).with_name("disk.c")
LIBRARY = "DISK_LIBRARY"


def with_disk(mounting: bool = False) -> None:
    """Begin the script anew with the library, and exit with its code; return where it has begun so.

    ``mounting``: where file systems can be mounted, if the system allows that at all. Exits with a
    word where there is no compiler, or no Linux.
    """
    if LIBRARY in os.environ:
        return
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        print("not possible here: it takes Linux and a C compiler")
        sys.exit(0)
    with tempfile.TemporaryDirectory(prefix="disk-") as folder:
        library = Path(folder) / "disk.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
        subprocess.run([*command, "-ldl", "-lpthread"], check=True)
        private = ["unshare", "--user", "--map-root-user", "--mount"] if mounting else []
        if private and subprocess.run([*private, "true"], capture_output=True).returncode:
            private = []
        environment = {**os.environ, **forks.ENVIRONMENT, LIBRARY: str(library)}
        environment["LD_PRELOAD"] = str(library)
        again = subprocess.run([*private, sys.executable, *sys.argv], env=environment)
    sys.exit(again.returncode)


def fill(below: Path, number: int, half: bool = False) -> None:
    """From the call ``number`` on (from 1), the disk is full for whatever is ``below`` a folder.

    ``half``: of that call, if it writes, a half still fits.
    """
    _library().disk_fill(os.fsencode(below), ctypes.c_long(number), int(half))


def count(below: Path) -> None:
    """Count the calls, all of which there is room for."""
    fill(below, 2**62)


def log(below: Path, to: int) -> None:
    """Have each call written to the file ``to``; see :func:`scripts.lose_writes.read`."""
    _library().disk_log(os.fsencode(below), to)


def counted() -> int:
    """How many calls there were since the last of these functions."""
    found: int = _library().disk_counted()
    return found


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(os.environ[LIBRARY])  # the one that is loaded already
    library.disk_counted.restype = ctypes.c_long
    return library
