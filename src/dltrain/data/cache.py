"""What is made once and read by later runs; images: decoded in parallel to uint8 arrays."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dltrain.data.images.decode import OtherSizeError, Shape, UnreadableError, decode
from dltrain.data.images.survey import Asked, Header, find_shape, read_header
from dltrain.data.images.tally import Looks, Tally, tally
from dltrain.data.lock import lock_for
from dltrain.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

FORMAT = 2
"""Of the cache; another number makes every cache anew."""
CHUNK = 64
SHOWN = 5


def state(path: Path) -> tuple[int, int, int]:
    """What changes when a file does: its size and times of change, in nanoseconds.

    A program may set a file's size and time back (``cp -p``, ``touch``), but not the time at which
    the system saw that change. All 0 for a file that is not there.
    """
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


@dataclass(frozen=True)
class EncodedImages:
    """A split still to be decoded: ``get(i)`` gives its files' contents or paths, one by one.

    ``names`` say of each what to call it in a message; ``targets`` (n, …) are
    its classes or labels, ``groups`` (n,) which of them stay together, where some do.
    """

    names: Sequence[str]
    targets: np.ndarray[Any, Any]
    get: Callable[[int], Path | bytes]
    groups: np.ndarray[Any, Any] | None = None

    def only(self, rows: Sequence[int]) -> EncodedImages:
        """Those of the rows given."""
        names = [self.names[row] for row in rows]
        groups = None if self.groups is None else self.groups[rows]
        return EncodedImages(
            names, self.targets[rows], lambda position: self.get(rows[position]), groups
        )


@dataclass(frozen=True)
class Stored:
    """A split in files: ``input`` (n, c, h, w) uint8 and ``target`` (n, …); what was found.

    ``groups`` is the file of those, where there are any.
    """

    files: Mapping[str, Path]
    tally: Tally
    groups: Path | None = None


class CannotKeepError(UserError):
    """A folder that cannot be written to, or holds no more."""


def decoded(
    folder: Path,
    key: Mapping[str, Any],
    asked: Asked,
    splits: Mapping[str, EncodedImages],
    skip_unreadable: bool,
    check: Callable[[Shape], None],
) -> tuple[Shape, dict[str, Stored]]:
    """Each split's images made alike, from ``folder`` where they were decoded before.

    ``key`` holds all that shapes the result besides. A cache appears whole or not at all. ``check``
    may refuse the shape before anything is decoded. Raises :class:`UserError` naming images that
    cannot be read, unless they are to be skipped, and for images of several sizes where one is
    not ``asked`` for.
    """
    shaping = {name: value for name, value in asdict(asked).items() if name != "otherwise" or value}
    settings = [FORMAT, dict(key), shaping, skip_unreadable]

    def make(partial: Path) -> None:
        _decode_all(partial, asked, splits, skip_unreadable, check)

    place = made_once(folder, settings, make, "the decoded images")
    found = json.loads((place / "found.json").read_text(encoding="utf-8"))
    shape = Shape(**found["shape"])
    check(shape)
    return shape, {
        name: Stored(
            {column: place / f"{name}-{column}.npy" for column in ("input", "target")},
            Tally(**found["splits"][name]),
            None if images.groups is None else place / f"{name}-groups.npy",
        )
        for name, images in splits.items()
    }


def made_once(
    folder: Path, settings: Sequence[Any], make: Callable[[Path], None], content: str
) -> Path:
    """The folder within ``folder`` that ``make`` filled, now or in an earlier run.

    It is named by all of ``settings``, and appears whole or not at all. Several runs that want
    it at once wait for the first. Raises :class:`CannotKeepError` where ``content`` cannot be kept.
    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:32]
    place = folder / digest
    if place.is_dir():
        return place
    partial = folder / f".{digest}.{uuid.uuid4().hex}.partial"
    try:
        with lock_for(place):
            if not place.is_dir():
                partial.mkdir(parents=True)
                make(partial)
                _publish(partial, place)
    except OSError as error:
        raise CannotKeepError(
            f"{folder} cannot keep {content}: {error.strerror}. "
            "Give another folder as data.root=DIR."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return place


def progress(title: str, transient: bool = False) -> Progress:
    """A bar on standard error: so many of so many, and how long it will still take.

    It stays there when it is done, unless it is ``transient``; that is for a terminal alone.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = transient and not console.is_terminal
    return Progress(*columns, console=console, transient=transient, disable=hidden)


def _publish(partial: Path, place: Path) -> None:
    try:
        partial.rename(place)
    except OSError:
        # Another run was faster, with the same images.
        if not place.is_dir():
            raise


def _decode_all(
    place: Path,
    asked: Asked,
    splits: Mapping[str, EncodedImages],
    skip_unreadable: bool,
    check: Callable[[Shape], None],
) -> None:
    names = {name: split.names for name, split in splits.items()}
    total = sum(map(len, names.values()))
    faults: dict[str, dict[int, str]] = {}
    headers: dict[str, dict[int, Header]] = {}
    looks: dict[str, Looks] = {}
    with progress("Reading headers", transient=True) as bars:
        bar = bars.add_task("", total=total)
        for name, images in splits.items():
            headers[name], faults[name] = {}, {}
            for done, found, wrong in _read_headers(images):
                headers[name] |= found
                faults[name] |= wrong
                bars.advance(bar, done)
    if not any(headers.values()):
        refuse_unreadable(names, faults, skip_unreadable=False)
    shape = find_shape(asked, headers, names)
    check(shape)
    with progress("Decoding images") as bars:
        bar = bars.add_task("", total=total)
        for name, images in splits.items():
            looks[name] = Looks()
            path = place / f"{name}-input.npy"
            for done, wrong, seen in _decode(path, shape, images, headers[name]):
                faults[name] |= wrong
                looks[name] = looks[name].merged(seen)
                bars.advance(bar, done)
    refuse_unreadable(names, faults, skip_unreadable)
    tallies = {}
    for name, images in splits.items():
        rows = [row for row in range(len(images.names)) if row not in faults[name]]
        if faults[name]:
            _keep(place / f"{name}-input.npy", rows)
        np.save(place / f"{name}-target.npy", np.asarray(images.targets)[rows])
        if images.groups is not None:
            np.save(place / f"{name}-groups.npy", images.groups[rows])
        kept = [headers[name][row] for row in rows]
        skipped = [f"{images.names[row]} {why}" for row, why in sorted(faults[name].items())]
        tallies[name] = asdict(tally(kept, shape, looks[name], skipped))
    content = json.dumps({"shape": asdict(shape), "splits": tallies})
    (place / "found.json").write_text(content, encoding="utf-8")


def refuse_unreadable(
    names: Mapping[str, Sequence[object]],
    faults: Mapping[str, Mapping[int, str]],
    skip_unreadable: bool,
) -> None:
    """Raise :class:`UserError` of the files that have ``faults``, unless these may be left out.

    Both are of each split: its files by their rows, and what is wrong with a row's.
    """
    lines = [
        f"{names[split][row]} {why}"
        for split, found in faults.items()
        for row, why in sorted(found.items())
    ]
    if lines and not skip_unreadable:
        rest = len(lines) - SHOWN
        raise UserError(
            "\n".join(lines[:SHOWN])
            + (f"\nand {rest} more" if rest > 0 else "")
            + "\nMend or remove them, or set data.skip_unreadable=true."
        )


def _chunks(work: Callable[[range], T], count: int) -> Iterator[T]:
    """``work`` on rows, some at a time, in threads: the decoders let go of Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = (range(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK))
        yield from pool.map(work, rows)


def _read_headers(images: EncodedImages) -> Iterator[tuple[int, dict[int, Header], dict[int, str]]]:
    """How many more are read, what they are, and faults by row."""

    def work(rows: range) -> tuple[int, dict[int, Header], dict[int, str]]:
        found, faults = {}, {}
        for row in rows:
            try:
                found[row] = read_header(images.get(row))
            except UnreadableError as error:
                faults[row] = str(error)
        return len(rows), found, faults

    return _chunks(work, len(images.names))


def _decode(
    path: Path, shape: Shape, images: EncodedImages, headers: Mapping[int, Header]
) -> Iterator[tuple[int, dict[int, str], Looks]]:
    """Write an array of all images; yield how many more are done, faults by row, and looks."""
    count = len(images.names)
    pixels = np.lib.format.open_memmap(
        path, "w+", np.uint8, (count, shape.channels, shape.height, shape.width)
    )

    def work(rows: range) -> tuple[int, dict[int, str], Looks]:
        faults, looks = {}, Looks()
        for row in rows:
            if row not in headers:
                continue
            try:
                pixels[row] = decode(images.get(row), shape)
            except UnreadableError as error:
                faults[row] = str(error)
            except OtherSizeError as error:
                raise UserError(f"{images.names[row]} {error}; give data.size") from error
            else:
                looks.add(pixels[row], headers[row].wide)
        return len(rows), faults, looks

    yield from _chunks(work, count)
    pixels.flush()


def _keep(path: Path, rows: Sequence[int]) -> None:
    """Write the array anew with those ``rows`` alone."""
    old = np.load(path, mmap_mode="r")
    whole = path.with_suffix(".kept.npy")
    new = np.lib.format.open_memmap(whole, "w+", old.dtype, (len(rows), *old.shape[1:]))
    for position, row in enumerate(rows):
        new[position] = old[row]
    new.flush()
    whole.replace(path)
