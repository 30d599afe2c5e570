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
from typing import TYPE_CHECKING, Any

import numpy as np

from dltrain.data.images.decode import Shape, UnreadableError, decode
from dltrain.data.lock import lock_for
from dltrain.errors import UserError

if TYPE_CHECKING:
    from rich.progress import Progress

FORMAT = 1
"""Of the cache; another number makes every cache anew."""
CHUNK = 64
SHOWN = 5


@dataclass(frozen=True)
class EncodedImages:
    """A split still to be decoded: ``get(i)`` gives its files' contents or paths, one by one.

    ``names`` say of each what to call it in a message; ``targets`` are its classes.
    """

    names: Sequence[str]
    targets: Sequence[int]
    get: Callable[[int], Path | bytes]

    def only(self, rows: Sequence[int]) -> EncodedImages:
        """Those of the rows given."""
        names = [self.names[row] for row in rows]
        targets = [self.targets[row] for row in rows]
        return EncodedImages(names, targets, lambda position: self.get(rows[position]))


@dataclass(frozen=True)
class Stored:
    """A split in files: ``input`` (n, c, h, w) uint8 and ``target`` (n,) int64."""

    files: Mapping[str, Path]
    skipped: Sequence[str]


class CannotKeepError(UserError):
    """A folder that cannot be written to, or holds no more."""


def decoded(
    folder: Path,
    key: Mapping[str, Any],
    shape: Shape,
    splits: Mapping[str, EncodedImages],
    skip_unreadable: bool,
) -> dict[str, Stored]:
    """Each split's images in ``shape``, from ``folder`` where they were decoded before.

    ``key`` holds all that shapes the result besides. A cache appears whole or not at all. Raises
    :class:`UserError` naming images that cannot be read, unless they are to be skipped.
    """
    settings = [FORMAT, dict(key), asdict(shape), skip_unreadable]

    def make(partial: Path) -> None:
        _decode_all(partial, shape, splits, skip_unreadable)

    place = made_once(folder, settings, make, "the decoded images")
    skipped = json.loads((place / "skipped.json").read_text(encoding="utf-8"))
    return {
        name: Stored(
            {column: place / f"{name}-{column}.npy" for column in ("input", "target")},
            skipped[name],
        )
        for name in splits
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


def progress(title: str) -> Progress:
    """A bar on standard error: so many of so many, and how long it will still take."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))


def _publish(partial: Path, place: Path) -> None:
    try:
        partial.rename(place)
    except OSError:
        # Another run was faster, with the same images.
        if not place.is_dir():
            raise


def _decode_all(
    place: Path, shape: Shape, splits: Mapping[str, EncodedImages], skip_unreadable: bool
) -> None:
    faults: dict[str, dict[int, str]] = {}
    with progress("Decoding images") as bars:
        bar = bars.add_task("", total=sum(len(split.names) for split in splits.values()))
        for name, images in splits.items():
            faults[name] = {}
            path = place / f"{name}-input.npy"
            for done, found in _decode(path, shape, images):
                faults[name] |= found
                bars.advance(bar, done)
    listed = {
        name: [f"{splits[name].names[row]} {why}" for row, why in found.items()]
        for name, found in faults.items()
    }
    everything = [line for lines in listed.values() for line in lines]
    if everything and not skip_unreadable:
        rest = len(everything) - SHOWN
        raise UserError(
            "\n".join(everything[:SHOWN])
            + (f"\nand {rest} more" if rest > 0 else "")
            + "\nMend or remove them, or set data.skip_unreadable=true."
        )
    for name, images in splits.items():
        kept = np.array([row not in faults[name] for row in range(len(images.names))], bool)
        if faults[name]:
            _keep(place / f"{name}-input.npy", kept)
        np.save(place / f"{name}-target.npy", np.array(images.targets, np.int64)[kept])
    (place / "skipped.json").write_text(json.dumps(listed), encoding="utf-8")


def _decode(
    path: Path, shape: Shape, images: EncodedImages
) -> Iterator[tuple[int, dict[int, str]]]:
    """Write an array of all images; yield how many more are done, and faults by row."""
    count = len(images.names)
    pixels = np.lib.format.open_memmap(
        path, "w+", np.uint8, (count, shape.channels, shape.height, shape.width)
    )

    def work(first: int) -> tuple[int, dict[int, str]]:
        faults = {}
        last = min(first + CHUNK, count)
        for row in range(first, last):
            try:
                pixels[row] = decode(images.get(row), shape)
            except UnreadableError as error:
                faults[row] = str(error)
        return last - first, faults

    # Threads: the decoders let go of Python's lock.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, range(0, count, CHUNK))
    pixels.flush()


def _keep(path: Path, kept: np.ndarray[Any, Any]) -> None:
    """Write the array anew with the rows that are ``kept``."""
    old = np.load(path, mmap_mode="r")
    whole = path.with_suffix(".kept.npy")
    new = np.lib.format.open_memmap(whole, "w+", old.dtype, (int(kept.sum()), *old.shape[1:]))
    for position, row in enumerate(kept.nonzero()[0]):
        new[position] = old[row]
    new.flush()
    whole.replace(path)
