"""Images whose labels are in a csv file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from pathlib import Path

from dltrain.config.suggest import did_you_mean
from dltrain.data.images.layout import SPLITS
from dltrain.data.images.listing import Unused
from dltrain.data.images.lists import Finder
from dltrain.files import open_file

FILES = ("file", "filename", "file_name", "image", "path", "id")
LABELS = ("label", "labels", "class", "target", "category", "tags")
"""What the two columns may be called, the first that is there."""
SEPARATORS = (",", ";", "\t")
SEVERAL = "|"
"""Between the labels of an image that has several."""

Labels = dict[Path, tuple[str, ...]]
"""The labels of each image, in the order of the file."""


def read_labels(
    path: Path,
    place: Path,
    images: Iterable[Path],
    unused: Unused,
    other: str | None = None,
) -> tuple[Labels, dict[Path, tuple[int, str]]]:
    """The labels that the csv file ``path`` gives to ``images``, which are below ``place``.

    With them the line, and the cell of the column ``other`` where that is asked for.

    A file is told by its path from ``place``, or by a name that only one image has, with or without
    its ending. Rows of files that are not there, and images of no row, are counted. Raises
    ValueError naming file and line for what is no such table, for a file in two rows, and where no
    row is of an image.
    """
    images = list(images)
    find = Finder(place, images)
    found: Labels = {}
    cells: dict[Path, tuple[int, str]] = {}
    for line, name, label, cell in _rows(path, other):
        image = find(name)
        if image is None:
            unused.add(f"rows of {path.name} without a file", name, images=True)
            continue
        if image in found:
            raise ValueError(
                f"{path}, line {line}: {name} is in line {cells[image][0]} too; give several "
                "labels as a|b"
            )
        parts = tuple(dict.fromkeys(part.strip() for part in label.split(SEVERAL)))
        found[image], cells[image] = tuple(part for part in parts if part), (line, cell)
    if not found:
        raise ValueError(f"{path} names no image that is in {place}")
    for image in images:
        if image not in found:
            unused.add(f"in no row of {path.name}", image.name, images=True)
    return found, cells


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


def _rows(path: Path, other: str | None) -> Iterator[tuple[int, str, str, str]]:
    """Line, file, label, and the cell of another column of each row."""
    try:
        with open_file(path, "r", "utf-8-sig", "") as file:
            head = file.readline()
            separator = max(SEPARATORS, key=head.count)
            names = next(csv.reader([head], delimiter=separator), [])
            columns = [name.strip().lower() for name in names]
            chosen = [next((n for n in known if n in columns), None) for known in (FILES, LABELS)]
            if None in chosen:
                raise ValueError(
                    f"{path} needs the columns file and label; it has {', '.join(columns)}"
                )
            named = [name.strip() for name in names]
            if other is not None and other not in named:
                raise ValueError(
                    f"{path} has no column {other!r}. {did_you_mean(other, named)} It has "
                    f"{', '.join(named)}.".replace("  ", " ")
                )
            if other is not None and columns[named.index(other)] in chosen:
                raise ValueError(f"{path}: the column {other!r} names files or labels already")
            places = [columns.index(name) for name in chosen if name is not None]
            places += [] if other is None else [named.index(other)]
            reader = csv.reader(file, delimiter=separator, strict=True)
            for row in reader:
                line = reader.line_num + 1
                if row and len(row) != len(columns):
                    raise ValueError(
                        f"{path}, line {line}: {len(row)} cells, but the header names "
                        f"{len(columns)} columns"
                    )
                if row:
                    file_name, label, *cell = (row[place].strip() for place in places)
                    yield line, file_name, label, "".join(cell)
    except OSError as error:
        raise ValueError(f"labels: {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"labels: {path} is no table of UTF-8 text: {error}") from error
