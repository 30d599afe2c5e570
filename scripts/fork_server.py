"""Runs many command lines in little time: each in a child of a process that has imported it all.

A child has a folder of its own to work in, a home of its own, no network, and a limit of processor
time, so that none can spoil the next.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CPU_LIMIT = 60
WAIT = 120.0
"""Seconds of processor time, and by the clock, after which a child is ended."""


@dataclass
class Outcome:
    """What became of a command line."""

    code: int
    """The exit code; below zero, the signal that ended it."""
    cpu: float
    out: str
    err: str
    created: list[str] = field(default_factory=list)
    """Files and folders that it left behind, relative to the folder above the working folder."""


Seen = dict[str, tuple[int, int]]
"""Files and folders by their path: size, and when they were changed; of a folder zeros."""


class ForkServer:
    """Runs command lines in a copy of ``template`` below ``room``, made anew where one changed it.

    The caller imports, before the first, whatever is to be imported once.
    """

    def __init__(self, room: Path, template: Path) -> None:
        self._room, self._template = room, template
        self._place = room / "line"
        self._at_first: Seen = {}

    def run(self, arguments: Sequence[str]) -> Outcome:
        """Run ``dltrain ARGUMENTS``, and wait for it."""
        if not self._at_first or _seen(self._place) != self._at_first:
            shutil.rmtree(self._place, ignore_errors=True)
            (self._place / "home").mkdir(parents=True)
            shutil.copytree(self._template, self._place / "work", symlinks=True)
            self._at_first = _seen(self._place)
        out, err = self._room / "out", self._room / "err"
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            _be_child(list(arguments), self._place, out, err)
        status, usage = _wait(child)
        return Outcome(
            os.waitstatus_to_exitcode(status),
            usage.ru_utime + usage.ru_stime,
            out.read_text(errors="replace"),
            err.read_text(errors="replace"),
            sorted(_seen(self._place).keys() - self._at_first.keys()),
        )


def _seen(place: Path) -> Seen:
    found: Seen = {}
    for folder, folders, files in os.walk(place):
        base = os.path.relpath(folder, place)
        found |= {os.path.normpath(f"{base}/{name}"): (0, 0) for name in folders}
        for name in files:
            status = os.lstat(f"{folder}/{name}")
            found[os.path.normpath(f"{base}/{name}")] = (status.st_size, status.st_mtime_ns)
    return found


def _wait(child: int) -> tuple[int, resource.struct_rusage]:
    until = time.monotonic() + WAIT
    pause = 0.001
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return status, usage
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return status, usage
        time.sleep(pause)
        pause = min(0.02, pause * 1.5)


def _be_child(arguments: list[str], place: Path, out: Path, err: Path) -> None:
    """Never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 5))
        for number, path in ((1, out), (2, err)):
            file = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            os.dup2(file, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(place / "work")
        os.environ["HOME"] = str(place / "home")
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.argv = ["dltrain", *arguments]
        _close_network()
        from dltrain.cli import main

        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _close_network() -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(101, "Network is unreachable")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse  # type: ignore[assignment]
