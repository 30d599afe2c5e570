"""What ``torchrun`` tells a process of those beside it. No torch here: queries need none."""

from __future__ import annotations

import os

TIMEOUT = 3600.0
"""Seconds that a rank waits for another one's part of a step, or for rank 0's own work, at most."""
_chosen: list[bool] = []
"""Whether this process is the one that tells of a failure, once that is known."""


def number(name: str, default: int) -> int:
    """An environment variable of torchrun's as a number."""
    try:
        return int(os.environ.get(name, default))
    except ValueError:
        return default


def world_size() -> int:
    """How many processes train one run."""
    return number("WORLD_SIZE", 1)


def rank() -> int:
    """Which of them this is, from 0."""
    return number("RANK", 0) if world_size() > 1 else 0


def local_rank() -> int:
    """Which of those on this machine."""
    return number("LOCAL_RANK", rank())


def local_world_size() -> int:
    """How many there are on this machine."""
    return number("LOCAL_WORLD_SIZE", world_size())


def choose_speaker(tells: bool) -> None:
    """From now on this process tells the user what goes wrong, or does not."""
    _chosen[:] = [tells]


def speaks() -> bool:
    """Whether what goes wrong here is told by this process.

    Until that is settled, by the first of each machine, for it may be that machine's.
    """
    if world_size() == 1:
        return True
    return _chosen[0] if _chosen else local_rank() == 0
