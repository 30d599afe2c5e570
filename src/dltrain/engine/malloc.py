"""The C library's memory, kept between the steps of a training run.

A step frees what it has allocated, and the next one allocates the same again. glibc gives large
pieces back to the kernel at once, and which are large it makes out as it goes; the kernel then
clears every page anew. Whether that happens is a matter of luck, and costs up to a third of the
speed (docs/performance.md).
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# The names and numbers of malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT = 1 << 30
"""Bytes that may lie free at the end of the heap."""
LARGEST = 32 << 20
"""Bytes of the largest piece that comes from the heap; glibc takes no more than this."""
DEFAULT = 128 << 10
"""Bytes at which glibc sets both thresholds, until it adapts them (mallopt(3))."""


@contextmanager
def memory_kept() -> Iterator[None]:
    """Keep freed memory for the next step, and give it back in the end.

    glibc's thresholds cannot be read. Afterwards they are at their defaults, where they stay: once
    they have been set, glibc does not adapt them any more.

    Does nothing where the C library is another, or where the user has told it what to do.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(M_MMAP_THRESHOLD, LARGEST)
    library.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_THRESHOLD, DEFAULT)
        library.mallopt(M_TRIM_THRESHOLD, DEFAULT)
        library.malloc_trim(0)


def give_back() -> None:
    """Give the kernel what lies free in the heap; the next steps take again what they need.

    Small pieces that stay come to lie where large ones were, and the large ones go elsewhere: so
    a heap that is kept grows by whole tensors, however little is in use. Does nothing where
    :func:`memory_kept` does nothing.
    """
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """The C library, where it is glibc and the user has not told it what to do."""
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return None
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "mallopt") else None
