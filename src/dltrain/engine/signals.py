"""SIGTERM and the first Ctrl-C ask for an orderly end; the second Ctrl-C is not asked twice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def exit_code(number: int | None) -> int:
    """What a shell expects of a command that the signal ``number`` has ended, or None."""
    return 0 if number is None else 128 + number


@contextmanager
def asking(stop: Callable[[int], None]) -> Iterator[None]:
    """Call ``stop(signal number)`` on SIGTERM and on the first SIGINT while inside.

    Signals can be handled in the main thread alone; elsewhere this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if number == signal.SIGINT and asked:
            raise KeyboardInterrupt
        asked = True
        stop(number)

    # One that was not installed from Python (None) could not be put back.
    ours = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) is not None]
    before = {number: signal.signal(number, handle) for number in ours}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
