"""What a user can mend, told in one message. Bugs of ours are never of these kinds."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

KEPT = "\n\t"
"""Of what is not printable, what a message may have."""
NO_HOME = (
    "a path begins with ~, and there is no home directory. Set HOME, or give another path, "
    "such as data.root=DIR."
)


def printable(text: str) -> str:
    """``text`` without what would move a terminal's cursor, or change its colors or letters' order.

    Names of files, classes and columns may be a stranger's. What is no character is told as such.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in KEPT else "?" for c in text)


def is_without_home(error: RuntimeError) -> bool:
    """Whether ``error`` is pathlib's, of a ``~`` that stands for nothing."""
    return "home directory" in str(error)


class UserError(ValueError):
    """A mistake the user can mend: shown without a traceback, exit code 2."""


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
        return f"{self.key}{self.joint}{self.problem}" + (f" {self.hint}" if self.hint else "")


class ConfigError(UserError):
    """Every fault found in a config, reported together."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        assert faults
        self.faults = list(faults)
        super().__init__("\n".join(str(fault) for fault in faults))
