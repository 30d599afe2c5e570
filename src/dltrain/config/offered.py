"""Installed packages that offer parts: those with an entry point in the group ``dltrain.configs``.

The entry point names a package of YAML files, laid out as dltrain's own ``configs``; their
``_target_`` name classes of the same distribution's package. No torch, and hardly a cost: a query
such as ``--cfg job`` asks.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from functools import cache

GROUP = "dltrain.configs"
TRUSTED = "DLTRAIN_PACKAGES"
"""Packages that a run's folder may name, with all they take."""

logger = logging.getLogger(__name__)


@cache
def config_packages() -> tuple[str, ...]:
    """The packages of YAML files that installed packages offer, by name of the entry point.

    One that cannot be found is left out, with a warning.
    """
    if not any(map(_mentions_group, sys.path)):
        return ()
    from importlib.metadata import entry_points  # takes as long as all the rest of a query
    from importlib.util import find_spec

    found = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            there = find_spec(entry.module) is not None
        except ImportError:
            there = False
        if there:
            found.append(entry.module)
        else:
            logger.warning("%s: there is no package %s, which it offers.", entry.name, entry.module)
    return tuple(dict.fromkeys(found))


def offered() -> frozenset[str]:
    """The packages whose parts a run's folder may name, since they were installed for that."""
    return frozenset(name.partition(".")[0] for name in config_packages())


def named() -> frozenset[str]:
    """The packages that the user has named in the environment variable."""
    return frozenset(os.environ.get(TRUSTED, "").replace(",", " ").split())


def _mentions_group(folder: str) -> bool:
    """Whether the metadata of a distribution in ``folder`` has the group."""
    return any(GROUP.encode() in text for text in _entry_points(folder))


def _entry_points(folder: str) -> Iterator[bytes]:
    try:
        with os.scandir(folder or ".") as entries:
            names = [e.path for e in entries if e.name.endswith((".dist-info", ".egg-info"))]
    except OSError:  # no folder, or an archive: nothing is installed there
        return
    for name in names:
        try:
            with open(f"{name}/entry_points.txt", "rb") as file:  # noqa: PTH123 - many, quickly
                yield file.read()
        except OSError:
            continue
