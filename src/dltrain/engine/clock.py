"""Seconds in which a run could work: not those for which Ctrl-Z has suspended it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_suspended = 0.0


def seconds() -> float:
    """A clock for differences, as ``time.perf_counter``, that rests while :func:`running` does."""
    return time.perf_counter() - _suspended


@contextmanager
def running() -> Iterator[None]:
    """While inside, the clock rests from Ctrl-Z (SIGTSTP) to ``fg`` or ``bg`` (SIGCONT).

    SIGSTOP asks nobody, so what it takes counts. Where Ctrl-Z is not what it is by default, or
    does not exist, nothing is changed.
    """
    number, process = getattr(signal, "SIGTSTP", None), os.getpid()
    in_main = threading.current_thread() is threading.main_thread()
    if number is None or not in_main or signal.getsignal(number) != signal.SIG_DFL:
        yield
        return

    def suspend(number: int, frame: FrameType | None) -> None:
        global _suspended
        began = time.perf_counter()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)  # here the process stands still
        if os.getpid() == process:
            signal.signal(number, suspend)
            _suspended += time.perf_counter() - began

    signal.signal(number, suspend)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL)
