"""Which files below a folder are images, and what is left out for which reason."""

from __future__ import annotations

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from glob import has_magic
from pathlib import Path
from typing import Any

from dltrain.data.images.decode import FOREIGN, UnreadableError, open_file

logger = logging.getLogger(__name__)

SYSTEM = {
    *("@eadir", "#recycle", "@recycle", "@tmp", "#snapshot"),  # Synology, QNAP
    *("__macosx", "icon\r", ".ds_store", "network trash folder", "temporary items"),
    *("$recycle.bin", "system volume information", "thumbs.db", "ehthumbs.db", "desktop.ini"),
    *("lost+found", "__pycache__"),
}
"""Names, in small letters, of what an operating system or a server keeps beside files."""
IMAGES = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".tif", ".tiff"),
    *(".webp", ".avif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".ico", ".pcx"),
    *(".sgi", ".rgb", ".bw", ".dds", ".mpo"),
    *FOREIGN,
}
"""Endings of images. A file of another ending is one if it looks like one inside."""
OTHERS = {
    *(".txt", ".md", ".rst", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html"),
    *(".pdf", ".doc", ".docx", ".xls", ".xlsx", ".zip", ".tar", ".gz", ".7z", ".py", ".ipynb"),
    *(".db", ".ini", ".log", ".mat", ".npy", ".npz", ".h5", ".pkl", ".mp4", ".avi", ".mov", ".wav"),
}
"""Endings of what is no image, and is not looked into."""
RUN = {"config.yaml", "environment.json"}
"""Files of a run folder, whose figures are no data."""
EXAMPLES = 3


@dataclass
class Unused:
    """Files that are left out: by reason how many, and what some of them are called."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    images: int = 0
    """How many of them are images that might have been meant."""

    def add(self, reason: str, name: str, count: int = 1, images: bool = False) -> None:
        """``count`` files, for which ``name`` stands."""
        self.counts[reason] += count
        self.images += count if images else 0
        names = self.examples.setdefault(reason, [])
        if name not in names and len(names) <= EXAMPLES:
            names.append(name)

    def __str__(self) -> str:
        """Reasons, counts, and names, in one line."""
        parts = []
        for reason, count in self.counts.items():
            names = self.examples[reason]
            more = ", …" if len(names) > EXAMPLES else ""
            parts.append(f"{reason} {count:,} ({', '.join(names[:EXAMPLES])}{more})")
        return "; ".join(parts)


LeftOut = Callable[[Path, bool], "str | None"]
"""Why a file, which is a regular one or not, is none of those that are looked for; else None."""
Finds = Callable[[Path, Unused, bool], Iterator[Path]]
"""The files in a folder that are looked for; at any depth, or none."""


def image_files(place: Path, unused: Unused, deep: bool = True) -> Iterator[Path]:
    """Image files in ``place``: see :func:`files_in`."""
    return files_in(place, unused, deep, _no_image)


def files_in(place: Path, unused: Unused, deep: bool, left_out: LeftOut) -> Iterator[Path]:
    """Files in ``place`` that are not left out, in order; where it goes ``deep``, at any depth.

    Links to folders are followed, but not back to where they came from. Raises OSError for a
    folder that cannot be read.
    """
    # A class's folder may have a link to the one above it, in which the other classes are.
    states = [folder.stat() for folder in place.resolve().parents]
    above = frozenset((s.st_dev, s.st_ino) for s in states)
    yield from _walk(place, unused, above, deep, left_out)


def expanded(inputs: Iterable[Any], finds: Finds, noun: str) -> Iterator[Any]:
    """Examples one by one: of a folder all files that ``finds`` tells, of a pattern what fits it.

    An open text file has a path a line; what is left out of a folder is logged. Whatever else
    there is among ``inputs`` is an example. Raises ``ValueError`` where there is no ``noun``.
    """
    for one in inputs:
        if hasattr(one, "readline"):
            yield from expanded((line.rstrip("\n") for line in one if line.strip()), finds, noun)
            continue
        if isinstance(one, str) and not one:  # which as a path would be the working folder
            raise ValueError(f"an empty text names no {noun}")
        path = Path(one).expanduser() if isinstance(one, (str, Path)) else None
        if path is not None and path.is_dir():
            unused = Unused()
            files = list(finds(path, unused, True))
            if unused.counts:
                logger.warning("%s: not used: %s", path, unused)
            if not files:
                raise ValueError(f"{path} is a folder without {_a(noun)}")
            yield from files
        elif path is not None and has_magic(str(path)) and not path.exists():
            files = sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
            if not files:
                raise ValueError(f"{one}: no file matches this pattern")
            yield from expanded(files, finds, noun)
        else:
            yield one


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _walk(
    place: Path, unused: Unused, above: frozenset[tuple[int, int]], deep: bool, left_out: LeftOut
) -> Iterator[Path]:
    state = place.stat()
    here = above | {(state.st_dev, state.st_ino)}
    with os.scandir(place) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    if {entry.name for entry in found} >= RUN:
        unused.add("run folders", place.name, _count(place))
        return
    for entry in found:
        path = place / entry.name
        if why := _left_out(entry.name):
            unused.add(why, entry.name, _count(path) if _leads_to_folder(entry) else 1)
    kept = [entry for entry in found if not _left_out(entry.name)]
    for entry in (entry for entry in kept if not _leads_to_folder(entry)):
        path = place / entry.name
        reason = left_out(path, entry.is_symlink() or entry.is_file())
        if reason is None:
            yield path
        else:
            unused.add(reason, entry.name)
    for entry in (entry for entry in kept if deep and _leads_to_folder(entry)):
        state = entry.stat()
        if (state.st_dev, state.st_ino) in here:
            unused.add("links to a folder above", entry.name)
        else:
            yield from _walk(place / entry.name, unused, here, deep, left_out)


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one; a link that goes round in a circle is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def folders(place: Path) -> list[Path]:
    """Folders in ``place`` that are neither hidden nor a system's, in order."""
    return sorted(path for path in place.iterdir() if path.is_dir() and not _left_out(path.name))


def name_of(folder: Path) -> str:
    """A folder's name; the same letter is the same, whether in one code point or in two.

    Bytes that are no UTF-8 are told by their escapes: a class's name is written into files.
    """
    name = folder.name.encode(errors="backslashreplace").decode()
    return unicodedata.normalize("NFC", name).strip()


def _left_out(name: str) -> str | None:
    if name.lower() in SYSTEM:
        return "system files"
    return "hidden files" if name.startswith(".") else None


def _count(folder: Path) -> int:
    return sum(len(names) for _, _, names in os.walk(folder))


def _no_image(path: Path, regular: bool) -> str | None:
    if not regular:
        return "pipes and devices"
    suffix = path.suffix.lower()
    if suffix in OTHERS:
        return "no image"
    if suffix not in IMAGES:
        try:
            open_file(path).close()
        except UnreadableError:
            return "no image"
    return None
