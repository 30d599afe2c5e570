"""What a user can mend, told in one message. Bugs of ours are never of these kinds."""

from __future__ import annotations

import errno
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

NO_HOME = (
    "a path begins with ~, and there is no home directory. Set HOME, or give another path, "
    "such as data.root=DIR."
)


def is_without_home(error: RuntimeError) -> bool:
    """Whether ``error`` is pathlib's, of a ``~`` that stands for nothing."""
    return "home directory" in str(error)


MOST_SHOWN = 400
"""Letters of a value, or of a sentence with one, that a message repeats."""
LISTED = 1600
"""Letters of a hint, which may list all that there is to choose from."""


def printable(text: str) -> str:
    """``text`` on one line: what moves a cursor, colors or hides letters as its escape."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in text
    )


def printable_lines(text: str) -> str:
    """:func:`printable`, line by line: names of files and classes may be a stranger's."""
    if text.isprintable():
        return text
    return "\n".join(map(printable, text.expandtabs(4).split("\n")))


def printable_json(text: str) -> str:
    """JSON with what :func:`printable` escapes as JSON's own escapes: it means the same."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def shortened(text: str, most: int = MOST_SHOWN) -> str:
    """``text`` with as much of its middle left out as is beyond ``most`` letters."""
    if len(text) <= most:
        return text
    left_out = f" … {len(text) - most:,} letters … "
    return f"{text[: most // 2]}{left_out}{text[len(text) - most // 2 :]}"


class UserError(ValueError):
    """A mistake the user can mend: shown without a traceback, exit code 2."""


REFUSED = {
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}
"""Why a system refuses a path that somebody named, whatever is done with it."""
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""The disk, the user's part of it, or a file system that takes no such file."""


def as_refused(error: OSError) -> UserError | None:
    """What the system refuses: a path, or more room; None for anything else, such as a bug.

    A path may have a name of 300 letters, or be somebody else's.
    """
    if error.errno in FULL:
        place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return UserError(f"{place}{os.strerror(error.errno)}. Make room, then try again.")
    if error.errno in REFUSED and error.filename is not None:
        return UserError(f"{os.fsdecode(error.filename)}: {error.strerror}.")
    return None


def require_between(low: float, high: float, **values: float) -> None:
    """Raise ``ValueError`` naming the first argument that is not from ``low`` to ``high``."""
    for name, value in values.items():
        if not low <= value <= high:
            raise ValueError(f"{name} must be from {low} to {high}, got {value}")


def require_units(**widths: Sequence[int]) -> None:
    """Raise ``ValueError`` naming the first argument with a layer that has no units."""
    for name, layers in widths.items():
        if min(layers, default=1) < 1:
            raise ValueError(f"{name} needs at least one unit a layer, got {list(layers)}")


def require_fraction(**values: float) -> None:
    """Raise ``ValueError`` naming the first argument that is not from 0 to below 1."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} must be a fraction from 0 to below 1, got {value}")


class OutOfMemory(UserError):
    """What was asked for is more than the machine, or the device, has memory for."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is of memory that was not given: Python's, numpy's or torch's."""
    if isinstance(error, (OutOfMemory, MemoryError)):
        return True
    told = str(error)
    of_torch = isinstance(error, (RuntimeError, TypeError))
    return of_torch and any(words in told for words in NO_MEMORY)


NO_MEMORY = (
    "can't allocate memory",
    "out of memory",
    "Storage size calculation overflowed",
    "numel: integer multiplication overflow",
    "invalid buffer size",
    "Overflow when unpacking long",
)
"""How torch says it: a size that no integer holds is more than any memory."""


class Diverged(UserError):
    """A run whose losses or weights are no longer finite; its status is ``diverged``."""


def require_at_least(low: float, **values: float) -> None:
    """Raise ``ValueError`` naming the first argument that is below ``low``, or no number."""
    for name, value in values.items():
        if not value >= low:
            raise ValueError(f"{name} must be at least {low}, got {value}")


class Interrupted(KeyboardInterrupt):
    """A signal once a run has begun, whose folder is named; else it is a KeyboardInterrupt.

    ``number`` is the signal's, and ``said`` what is told of it.
    """

    def __init__(self, folder: Path, number: int = 2, said: str = "Interrupted.") -> None:
        super().__init__(f"{said} {going_on(folder)}")
        self.number = number


def going_on(folder: Path) -> str:
    """How to go on with what a signal, or a kill, has ended: a run, or several."""
    return f"Go on with: dltrain resume {shlex.quote(str(folder))}"


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a config.

    ``key`` is the config key as a user would type it (``optimizer.lr``), ``problem`` what is
    wrong with it, ``hint`` the nearest right thing. ``joint`` stands between key and problem: a
    blank where the key is the subject of the sentence. ``takes_text``: the value would be right if
    it were text, and not the number, truth value or null that it was read as. ``missing``: it has
    no default and was not given. ``instead``: the override that was probably meant.
    """

    key: str
    problem: str
    hint: str = ""
    joint: str = ": "
    takes_text: bool = False
    missing: bool = False
    instead: str = field(default="", compare=False)

    def __str__(self) -> str:
        key, problem = printable(self.key), printable(self.problem)
        told = f"{shortened(key, MOST_SHOWN // 2)}{self.joint}{shortened(problem)}"
        return f"{told} {shortened(printable(self.hint), LISTED)}" if self.hint else told


class ConfigError(UserError):
    """Every fault found in a config, reported together."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        assert faults
        self.faults = list(faults)
        super().__init__("\n".join(str(fault) for fault in faults))
