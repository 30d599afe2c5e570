"""Runs many command lines in little time: each in a child of a process that has imported it all.

A child has a folder of its own to work in, a home of its own, no network, and a limit of processor
time, so that none can spoil the next.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import forks

CPU_LIMIT = 60
"""Seconds of processor time after which a child is ended."""


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
        child = forks.start(arguments, self._place / "work", out, self._set_limits, errors=err)
        ended = forks.wait(child, out)
        created = sorted(_seen(self._place).keys() - self._at_first.keys())
        said = err.read_text(errors="replace")
        return Outcome(ended.code, ended.processor, ended.text, said, created)

    def _set_limits(self) -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT, CPU_LIMIT + 5))
        os.environ["HOME"] = str(self._place / "home")
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        _close_network()


def _seen(place: Path) -> Seen:
    found: Seen = {}
    for folder, folders, files in os.walk(place):
        base = os.path.relpath(folder, place)
        found |= {os.path.normpath(f"{base}/{name}"): (0, 0) for name in folders}
        for name in files:
            status = os.lstat(f"{folder}/{name}")
            found[os.path.normpath(f"{base}/{name}")] = (status.st_size, status.st_mtime_ns)
    return found


def _close_network() -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(101, "Network is unreachable")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    socket.getaddrinfo = refuse  # type: ignore[assignment]
