"""Names of runs and studies, which become names of folders in ``output_dir``."""

from __future__ import annotations

import re

from dltrain.runs.folder import LATEST

LONGEST = 200
"""Bytes: file systems take 255, and something may be added."""
TAKEN = (LATEST, "sweeps", "studies")
"""What has a meaning of its own in ``output_dir``."""
WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


def problem_of(name: str) -> str:
    """Why ``name`` cannot be that of a folder of runs on every system; empty where it can."""
    if not name.strip():
        return "must not be empty"
    if name in TAKEN:
        return f"must not be {name!r}, which has a meaning of its own in output_dir"
    if name.startswith("."):
        return f"must not begin with a dot, got {name[:LONGEST]!r}"
    if "/" in name or "\\" in name or ":" in name:
        return f"must be the name of a folder, and no path, got {name[:LONGEST]!r}"
    if not name.isprintable():
        return f"must be of characters that are printed, got {name[:LONGEST]!r}"
    if name != name.strip() or name.endswith("."):
        return f"must not begin or end with a blank, nor end with a dot, got {name[:LONGEST]!r}"
    if WINDOWS.fullmatch(name):
        return f"must be no name of a device on Windows, got {name!r}"
    if len(name.encode()) > LONGEST:
        return f"must have at most {LONGEST} bytes, got {len(name.encode()):,}"
    return ""
