"""What scripts/flat_memory.py puts into a run: how much memory its process has, as it goes on.

Each line that is added to the file $RESIDENT is a JSON object: the step, the process's resident
bytes, how many objects Python's collector knows, and what glibc says of its heap: bytes in use,
and bytes that are free in between. Linux alone.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

from dltrain.contracts.run import Callback, View

EVERY = 100
"""Steps, or rather the first logged one after so many."""


class Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


class Resident(Callback):
    """Adds a line every ``EVERY`` steps, and one as the run ends.

    With $RESIDENT_TRACE it also says which lines of Python hold more than at a fifth of the run.
    """

    def start(self, view: View) -> None:
        self._due, self._before = EVERY, None
        if os.environ.get("RESIDENT_TRACE"):
            tracemalloc.start(8)

    def log(self, view: View, values: Mapping[str, float]) -> None:
        step = view.progress.step
        if step < self._due:
            return
        self._due = step + EVERY
        write(step)
        if tracemalloc.is_tracing() and step >= view.progress.max_steps // 5 and not self._before:
            self._before = tracemalloc.take_snapshot()

    def end(self, view: View, status: str) -> None:
        write(-1)
        if self._before:
            after = tracemalloc.take_snapshot()
            for found in after.compare_to(self._before, "traceback")[:12]:
                print(found, *found.traceback.format(), sep="\n")


def own_bytes(process: int) -> int:
    """Resident bytes of a process, without those of files, which the kernel takes back at will."""
    resident, shared = Path(f"/proc/{process}/statm").read_text().split()[1:3]
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGE_SIZE")


def write(step: int) -> None:
    """Add a line to $RESIDENT; -1 stands for the end of a run."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = Mallinfo
    heap = library.mallinfo2()
    line = {
        "step": step,
        "resident": own_bytes(os.getpid()),
        "modules": len(sys.modules),
        "objects": len(gc.get_objects()),
        "used": heap.uordblks + heap.hblkhd,
        "free": heap.fordblks,
    }
    with Path(os.environ["RESIDENT"]).open("a") as file:
        file.write(json.dumps(line) + "\n")
