"""Whether data is still what a run began with, and if not, what has changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

FILES = "files"
MOST_LISTED = 1000
"""Files of a folder beyond which their number and size must do."""
SHOWN = 3
BLOCK = 1 << 20


def describe(paths: Iterable[Path]) -> dict[str, Any]:
    """Of each file its size and a digest of its content; of each folder the sizes of its files."""
    return {str(path.absolute()): _described(path) for path in paths if _is_there(path)}


def changes(kept: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two identities of a source; empty where the examples are the same.

    Where these tell by themselves that they are the same, a difference of their files is none.
    """
    names = [name for name in {**kept, **now} if name != FILES] or [FILES]
    if all(kept.get(name) == now.get(name) for name in names):
        return []
    lines = list(changed_files(kept))
    before, after = _mapping(kept.get("splits")), _mapping(now.get("splits"))
    for name in {**before, **after}:
        old, new = (_mapping(splits.get(name)) for splits in (before, after))
        if old != new:
            lines.append(_changed_split(name, old.get("examples"), new.get("examples")))
    return lines or [f"{', '.join(names)}: not what it was"]


def changed_files(kept: Mapping[str, Any]) -> Iterator[str]:
    """What has happened to the files of an identity since it was taken."""
    for name, old in _mapping(kept.get(FILES)).items():
        path = Path(name)
        if not _is_there(path):
            yield f"{name} is no longer there"
        elif old != _described(path):
            what = _changed_folder(path, old) if path.is_dir() else _changed_file(path, old)
            yield f"{name} {what}"


def _is_there(path: Path) -> bool:
    """Whether it can be looked into: a pipe would wait for its other end."""
    return path.is_file() or path.is_dir()


def _described(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        size = path.stat().st_size
        return {"bytes": size, "digest": _digest(path, size)}
    sizes = dict(_sizes(path))
    if len(sizes) > MOST_LISTED:
        return {"count": len(sizes), "bytes": sum(sizes.values())}
    return {"sizes": sizes}


def _sizes(folder: Path) -> Iterator[tuple[str, int]]:
    for place, folders, names in os.walk(folder, followlinks=True):
        folders.sort()
        for name in sorted(names):
            file = Path(place) / name
            if file.is_file():
                yield file.relative_to(folder).as_posix(), file.stat().st_size


def _digest(path: Path, size: int) -> str:
    """Of the first ``size`` bytes."""
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(BLOCK, size))):
            found.update(block)
            size -= len(block)
    return found.hexdigest()


def _changed_file(path: Path, old: Any) -> str:
    before, after = _mapping(old).get("bytes", 0), path.stat().st_size
    if not isinstance(before, int) or before >= after:
        return f"has another content, of {after:,} bytes ({before:,} before)"
    if _digest(path, before) != old.get("digest"):
        return f"has another content, of {after:,} bytes ({before:,} before)"
    with path.open("rb") as file:
        file.seek(before)
        added = sum(1 for line in file if line.strip())
    return f"has {added:,} more {'line' if added == 1 else 'lines'} at its end"


def _changed_folder(path: Path, old: Any) -> str:
    before, after = _mapping(_mapping(old).get("sizes")), dict(_sizes(path))
    if not before:
        return f"has {len(after):,} files ({_mapping(old).get('count', 0):,} before)"
    kinds = {
        "new": [name for name in after if name not in before],
        "gone": [name for name in before if name not in after],
        "of another size": [n for n, size in after.items() if before.get(n, size) != size],
    }
    counts = [
        f"{len(names):,} {kind} ({', '.join(names[:SHOWN])}{', …' if names[SHOWN:] else ''})"
        for kind, names in kinds.items()
        if names
    ]
    return f"has files that are others: {'; '.join(counts)}"


def _changed_split(name: str, before: Any, after: Any) -> str:
    if before == after:
        return f"the {name} split has {after} examples as before, but others"
    return f"the {name} split has {after or 0} examples ({before or 0} before)"


def _mapping(value: Any) -> Mapping[str, Any]:
    """``value``; nothing where a file that somebody edited holds something else."""
    return value if isinstance(value, Mapping) else {}
