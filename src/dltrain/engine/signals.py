"""Signals that ask a process to end: in order while it trains, by an exception elsewhere.

================  ==================================================================================
SIGINT            Ctrl-C; a second one while training is not asked twice
SIGTERM           a scheduler, ``kill``
SIGHUP            the terminal is gone: a closed window, ``tmux kill-pane``, a lost ssh. Under
                  ``nohup`` it is ignored, and stays so
SIGUSR1, SIGUSR2  the warning of a scheduler such as Slurm (``--signal``) before the time is over;
                  left alone where something else, such as submitit, waits for them
================  ==================================================================================

Each is an orderly end: a run saves a checkpoint, its status is ``interrupted``, and the exit code
is 128 and the signal's number. SIGQUIT ends a process at once, as SIGKILL does.

The command ``dltrain`` goes through three moments. While it starts (:func:`leave_at_once`) and at
its very end a signal ends the process then and there; in between (:func:`raised`) it is an
exception. Nothing here imports more than Python's own, for this is imported first of all.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

ENDING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)  # Windows has the first two
]
IMPORT = "<frozen importlib._bootstrap>"
"""The file of the frames of an import."""
AGAIN = 0.05
"""Seconds after which a signal that came in the middle of an import is looked at again."""

_unfinished: list[str] = []
"""What is told at an end at once, of all that has begun; the last of it is."""


class Ended(KeyboardInterrupt):
    """A signal that asks for an end, where there is nothing that could be ended in order."""

    def __init__(self, number: int) -> None:
        super().__init__(said(number))
        self.number = number


def number_of(error: KeyboardInterrupt) -> int:
    """The signal that an exception stands for; Python itself raises one for SIGINT alone."""
    return getattr(error, "number", signal.SIGINT)


def exit_code(number: int | None) -> int:
    """What a shell expects of a command that the signal ``number`` has ended, or None."""
    return 0 if number is None else 128 + number


def said(number: int) -> str:
    """What is told of an end by the signal ``number``."""
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"Interrupted{by}."


@contextmanager
def asking(stop: Callable[[int], None]) -> Iterator[None]:
    """Call ``stop(signal number)`` on a signal that asks for an end, but on the second Ctrl-C.

    Signals can be handled in the main thread alone; elsewhere this does nothing.
    """
    asked, outside = False, _imports(sys._getframe())

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if number == signal.SIGINT and asked:
            _raise(number, importing=_imports(frame) > outside)
            return
        asked = True
        stop(number)

    with _handled(handle):
        yield


@contextmanager
def raised() -> Iterator[None]:
    """Have a signal raise :class:`Ended`, a ``KeyboardInterrupt``, while inside.

    In the middle of an import it ends the process at once: an extension that is being loaded turns
    the exception into another one, and there is nothing yet to be put in order. Where there is,
    which :func:`unfinished` says, the import is waited for. So a second Ctrl-C ends it at once.
    """
    before, outside = False, _imports(sys._getframe())

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal before
        if before:
            if number == signal.SIGINT:
                _leave(number)
            return  # a terminal that closes says so twice
        importing = _imports(frame) > outside
        before = not importing
        _raise(number, importing)

    with _handled(handle):
        yield


@contextmanager
def unfinished(what_next: str) -> Iterator[None]:
    """While inside, there is something to be put in order; ``what_next`` says how to go on."""
    _unfinished.append(what_next)
    try:
        yield
    finally:
        _unfinished.pop()


@contextmanager
def withheld() -> Iterator[None]:
    """While inside, signals wait; in a process that is started here too, until :func:`heard`.

    Else a Ctrl-C would find it in the middle of its first imports.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def heard(but: int) -> None:
    """In a process that was started while signals were withheld: hear them all, ``but`` one."""
    signal.signal(but, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def leave_at_once() -> None:
    """From here on, have a signal end the process then and there.

    For the process of a command before it has begun; it is not put back.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        _leave(number)

    _handle_from_here(handle)
    # The last of all that is done at the end; then Python would put the system's handlers back.
    atexit.register(_ignore)


def all_done(code: int) -> None:
    """From here on, hear no signal; but on a second Ctrl-C end at once, with ``code``.

    For the process of a command whose exit code is known, while libraries put things in order.
    """
    before = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal before
        if number == signal.SIGINT:
            if before:
                os._exit(code)
            before = True

    _handle_from_here(handle)


def _handle_from_here(handle: Callable[[int, FrameType | None], None]) -> None:
    for number in _ours():
        signal.signal(number, _of_this_process(handle))


def _ignore() -> None:
    for number in _ours():
        signal.signal(number, signal.SIG_IGN)


def _raise(number: int, importing: bool) -> None:
    """Raise :class:`Ended`; in the middle of an import do that later, or leave."""
    if not importing:
        raise Ended(number)
    if not _unfinished:
        _leave(number)
    again = threading.Timer(AGAIN, os.kill, (os.getpid(), number))
    again.daemon = True
    again.start()


def _leave(number: int) -> NoReturn:
    line = " ".join([said(number), *_unfinished[-1:]])
    with suppress(OSError):  # nobody may be there to read it
        os.write(2, f"{line}\n".encode(errors="replace"))
    os._exit(exit_code(number))


def _imports(frame: FrameType | None) -> int:
    """The frames of imports among those that have led to ``frame``."""
    count = 0
    while frame is not None:
        count += frame.f_code.co_filename == IMPORT
        frame = frame.f_back
    return count


@contextmanager
def _handled(handle: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have ``handle`` called for each of our signals while inside."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = _of_this_process(handle)
    before = {number: signal.signal(number, handler) for number in _ours()}
    try:
        yield
    finally:
        for number, handler_before in before.items():
            signal.signal(number, handler_before)


def _ours() -> list[int]:
    """The signals to be handled here.

    What is ignored, or waited for by somebody else, is left to them; but Ctrl-C and SIGTERM are
    what everybody ends a training with. A handler that was not installed from Python (None) could
    not be put back.
    """
    always = signal.SIGINT, signal.SIGTERM
    found = {number: signal.getsignal(number) for number in ENDING}
    return [
        number
        for number, handler in found.items()
        if handler == signal.SIG_DFL
        or getattr(handler, "__module__", "") == __name__
        or (number in always and handler is not None)
    ]


def _of_this_process(
    handle: Callable[[int, FrameType | None], None],
) -> Callable[[int, FrameType | None], None]:
    """``handle``; but a child that was forked has it, too, and is its parent's to end.

    A signal of the terminal reaches both: the child, such as a process that loads data, goes on
    until its parent ends it, by SIGTERM.
    """
    process = os.getpid()

    def handler(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            handle(number, frame)
        elif number == signal.SIGTERM:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    return handler
