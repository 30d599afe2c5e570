"""Images whose labels are in a csv file."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from dltrain.data.images.layout import SPLITS
from dltrain.data.images.listing import Unused

FILES = ("file", "filename", "file_name", "image", "path", "id")
LABELS = ("label", "labels", "class", "target", "category", "tags")
"""What the two columns may be called, the first that is there."""
SEPARATORS = (",", ";", "\t")
SEVERAL = "|"
"""Between the labels of an image that has several."""

Labels = dict[Path, tuple[str, ...]]
"""The labels of each image, in the order of the file."""


def read_labels(path: Path, place: Path, images: Iterable[Path], unused: Unused) -> Labels:
    """The labels that the csv file ``path`` gives to ``images``, which are below ``place``.

    A file is told by its path from ``place``, or by a name that only one image has, with or without
    its ending. Rows of files that are not there, and images of no row, are counted. Raises
    ValueError naming file and line for what is no such table, for a file in two rows, and where no
    row is of an image.
    """
    images = list(images)
    find = _Finder(place, images)
    found: Labels = {}
    lines: dict[Path, int] = {}
    for line, name, label in _rows(path):
        image = find(name)
        if image is None:
            unused.add(f"rows of {path.name} without a file", name, images=True)
            continue
        if image in found:
            raise ValueError(
                f"{path}, line {line}: {name} is in line {lines[image]} too; give several labels "
                "as a|b"
            )
        parts = tuple(dict.fromkeys(part.strip() for part in label.split(SEVERAL)))
        found[image], lines[image] = tuple(part for part in parts if part), line
    if not found:
        raise ValueError(f"{path} names no image that is in {place}")
    for image in images:
        if image not in found:
            unused.add(f"in no row of {path.name}", image.name, images=True)
    return found


def is_multilabel(labels: Labels) -> bool:
    """Whether any image has several labels."""
    return any(len(own) > 1 for own in labels.values())


def with_one(labels: Labels, path: Path, unused: Unused) -> Labels:
    """Those that have one; the others, which have none, are counted."""
    for image, own in labels.items():
        if not own:
            unused.add(f"without a label in {path.name}", image.name, images=True)
    return {image: own for image, own in labels.items() if own}


def by_split(files: Iterable[Path], place: Path) -> dict[str, list[Path]]:
    """The files of each split, by the first folder below ``place``; without that, ``train``."""
    files = list(files)
    found: dict[str, list[Path]] = {"train": []}
    for file in files:
        top = file.relative_to(place).parts[0].lower()
        split = next((name for name, spellings in SPLITS.items() if top in spellings), "")
        found.setdefault(split, []).append(file)
    return found if found["train"] and "" not in found else {"train": files}


class _Finder:
    """Finds an image by what a table calls it."""

    def __init__(self, place: Path, images: Sequence[Path]) -> None:
        self._paths = {image.relative_to(place).as_posix(): image for image in images}
        self._paths |= {image.absolute().as_posix(): image for image in images}
        self._names: defaultdict[str, list[Path]] = defaultdict(list)
        for image in images:
            for name in {image.name, image.stem}:
                self._names[name].append(image)

    def __call__(self, name: str) -> Path | None:
        """The image, None where there is none or several might be meant."""
        path = PurePosixPath(name.replace("\\", "/")).as_posix()
        if path in self._paths:
            return self._paths[path]
        same = self._names.get(path, [])
        return same[0] if len(same) == 1 else None


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, file and label of each row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            separator = max(SEPARATORS, key=head.count)
            names = next(csv.reader([head], delimiter=separator), [])
            columns = [name.strip().lower() for name in names]
            chosen = [next((n for n in known if n in columns), None) for known in (FILES, LABELS)]
            if None in chosen:
                raise ValueError(
                    f"{path} needs the columns file and label; it has {', '.join(columns)}"
                )
            places = [columns.index(name) for name in chosen if name is not None]
            reader = csv.reader(file, delimiter=separator, strict=True)
            for row in reader:
                line = reader.line_num + 1
                if row and len(row) != len(columns):
                    raise ValueError(
                        f"{path}, line {line}: {len(row)} cells, but the header names "
                        f"{len(columns)} columns"
                    )
                if row:
                    yield line, row[places[0]].strip(), row[places[1]].strip()
    except OSError as error:
        raise ValueError(f"labels: {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"labels: {path} is no table of UTF-8 text: {error}") from error
