"""Which files are meant by ``data/{00000..00999}.parquet`` or ``data/*.tar``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path

from dltrain.config.suggest import nearest
from dltrain.errors import UserError

RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
MOST = 1_000_000
"""Files that a pattern may mean."""
SHOWN = 3


def files_of(key: str, patterns: str | Sequence[str]) -> list[Path]:
    """The files that ``patterns`` mean, in their order; those of ``*`` and ``?`` by name.

    ``{000..127}`` counts, and each file of it has to be there. A folder means nothing. Raises
    :class:`UserError`, naming ``data.key``, for what matches no file, for a file that is missing
    and for one that two patterns mean.
    """
    found: list[Path] = []
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        found += _of(key, str(Path(pattern).expanduser()))
    if not found:
        raise UserError(f"data.{key}: there is no pattern, and so no shard.")
    seen: set[tuple[int, int]] = set()
    for file in found:
        state = file.stat()
        if (state.st_dev, state.st_ino) in seen:
            raise UserError(f"data.{key}: {file} is meant twice: its examples would count double.")
        seen.add((state.st_dev, state.st_ino))
    return found


def require_apart(splits: Mapping[str, Sequence[Path]]) -> None:
    """Raise :class:`UserError` for a file that is in two splits."""
    owner: dict[tuple[int, int], str] = {}
    for split, files in splits.items():
        for file in files:
            state = file.stat()
            other = owner.setdefault((state.st_dev, state.st_ino), split)
            if other != split:
                raise UserError(
                    f"data.{'path' if split == 'train' else split}: {file} is a shard of the "
                    f"{other} split, too: what is trained on says nothing of what is new."
                )


def _of(key: str, pattern: str) -> list[Path]:
    found = [file for name in _counted(key, pattern) for file in _matched(key, name)]
    missing = [file for file in found if not file.is_file()]
    if not missing:
        return found
    if any(file.is_dir() for file in missing):
        folder = next(file for file in missing if file.is_dir())
        raise UserError(
            f"data.{key}: {folder} is a folder; name its files, such as {folder}/*.parquet or "
            f"{folder}/*.tar."
        )
    names = ", ".join(file.name for file in missing[:SHOWN]) + (", …" * (len(missing) > SHOWN))
    if len(missing) < len(found):
        raise UserError(
            f"data.{key}: {len(missing):,} of the {len(found):,} shards of {pattern} are missing: "
            f"{names}."
        )
    raise UserError(f"data.{key}: there is no file {missing[0]}.{_near(missing[0])}")


def _counted(key: str, pattern: str) -> Iterator[str]:
    """``pattern`` with each ``{first..last}`` counted out; zeros before a number stay."""
    found = RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last = int(found[1]), int(found[2])
    if last < first:
        raise UserError(f"data.{key}: {found[0]} counts down; write {{{last}..{first}}}.")
    if last - first >= MOST:
        raise UserError(f"data.{key}: {found[0]} means {last - first + 1:,} files, of {MOST:,}.")
    width = len(found[1])
    for number in range(first, last + 1):
        counted = f"{pattern[: found.start()]}{number:0{width}}{pattern[found.end() :]}"
        yield from _counted(key, counted)


def _matched(key: str, pattern: str) -> list[Path]:
    if not has_magic(pattern) or Path(pattern).exists():
        return [Path(pattern)]
    names = sorted(glob(pattern, recursive=True))  # noqa: PTH207 (of an absolute pattern)
    found = [Path(name) for name in names if Path(name).is_file()]
    if not found:
        raise UserError(f"data.{key}: no file matches {pattern}.{_near(Path(pattern))}")
    return found


def _near(path: Path) -> str:
    """What is there instead, for a message."""
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent and not has_magic(str(folder)):
        near = nearest(folder.name, [other.name for other in folder.parent.glob("*/")])
        if folder.parent.is_dir():
            hint = f" Did you mean {folder.parent / near}?" if near else ""
            return f" There is no folder {folder}.{hint}"
        folder = folder.parent
    if not folder.is_dir():
        return ""
    names = sorted(other.name for other in folder.iterdir() if other.is_file())
    if not names:
        return f" {folder} has no file."
    near = nearest(path.name, names)
    return f" {folder} has {near or ', '.join(names[:SHOWN])}" + (
        f" and {len(names) - 1:,} more files."
        if near and len(names) > 1
        else "."
        if near or len(names) <= SHOWN
        else f" and {len(names) - SHOWN:,} more files."
    )
