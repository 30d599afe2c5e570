"""What is known of each sound: by a table, by the names of the files, or by texts beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from dltrain.config.suggest import did_you_mean
from dltrain.data.images.labels import by_split
from dltrain.data.images.listing import Unused
from dltrain.data.images.lists import Finder
from dltrain.data.tables.cells import Cells
from dltrain.data.tables.csv_text import read_csv
from dltrain.data.tables.dividing import RowSplits
from dltrain.data.text.json_lines import read_json_lines
from dltrain.data.text.tab_lines import read_tab_lines
from dltrain.files import read_text

FILES = ("file", "filename", "file_name", "path", "audio", "wav", "id")
"""What the column of files may be called, the first that is there."""
FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")
JSON_LINES = (".jsonl", ".ndjson", ".json")
TABS = (".tsv", ".tab")
BESIDE = ".txt"
"""The ending of a transcript that lies beside its sound."""
MANY = ".trans.txt"
"""Of a file with a transcript a line, after the name of its sound, as LibriSpeech has them."""
SPLIT = "split"
FILE = "file"


@dataclass(frozen=True)
class Rows:
    """Sounds and what is known of each: ``files``, and ``cells`` of as many by column.

    ``places`` say of each where that was found, for messages.
    """

    files: Sequence[Path]
    cells: Mapping[str, Sequence[str]]
    places: Sequence[str]

    def __len__(self) -> int:
        return len(self.files)

    def only(self, rows: Sequence[int]) -> Rows:
        """Those of the rows given."""
        cells = {name: [column[row] for row in rows] for name, column in self.cells.items()}
        return Rows([self.files[r] for r in rows], cells, [self.places[r] for r in rows])

    def column(self, name: str, key: str) -> Sequence[str]:
        """The cells of a column. Raises ``ValueError`` naming the setting ``key``."""
        if name not in self.cells:
            there = list(self.cells)
            hint = did_you_mean(name, there)
            raise ValueError(
                f"{key}: there is no column {name!r}. {hint} There is "
                f"{', '.join(there) or 'none'}.".replace("  ", " ")
            )
        return self.cells[name]


def of_table(table: Path, place: Path, files: Sequence[Path], unused: Unused) -> Rows:
    """The rows of ``table`` (.csv, .tsv, .jsonl) that name one of ``files``, below ``place``.

    A file is told by its path from ``place``, or by a name that only one has, with or without its
    ending. Rows of files that are not there, and files of no row, are counted. Raises
    ``ValueError`` naming file and line.
    """
    cells = _table(table)
    names = next((name for name in FILES if name in cells.columns), None)
    if names is None:
        raise ValueError(
            f"{table} needs a column file; it has {', '.join(cells.columns)}: rename the one that "
            f"names the sounds (file, path, …)"
        )
    find, lines = Finder(place, files), dict[Path, int]()
    kept = []
    for row, name in enumerate(cells.columns[names]):
        file = find(name)
        if file is None:
            unused.add(f"rows of {table.name} without a file", name, images=True)
            continue
        if file in lines:
            raise ValueError(
                f"{table}, line {cells.lines[row]}: {name} is in line {lines[file]} too"
            )
        lines[file] = cells.lines[row]
        kept.append((row, file))
    if not kept:
        raise ValueError(f"{table} names no sound that is in {place}")
    for file in files:
        if file not in lines:
            unused.add(f"in no row of {table.name}", file.name, images=True)
    columns = {
        name: [column[row] for row, _ in kept]
        for name, column in cells.columns.items()
        if name != names
    }
    return Rows(
        [file for _, file in kept], columns, [f"{table}, line {cells.lines[r]}" for r, _ in kept]
    )


def of_pattern(pattern: str, files: Sequence[Path]) -> Rows:
    """What the names of ``files`` say, without their endings: ``{label}_{speaker}_{index}``.

    Each name in braces is a column. Raises ``ValueError`` for a pattern without any, and for files
    whose names are not of it.
    """
    names = FIELD.findall(pattern)
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"pattern names what stands in a file's name once each, as in {{label}}_{{speaker}}; "
            f"got {pattern!r}"
        )
    parts = FIELD.split(pattern)
    whole = "".join(
        f"(?P<{part}>.+?)" if place % 2 else re.escape(part) for place, part in enumerate(parts)
    )
    matches = [re.fullmatch(whole, file.stem) for file in files]
    others = [file for file, match in zip(files, matches, strict=True) if match is None]
    if others:
        raise ValueError(
            f"{others[0]} is not called {pattern}, nor are {len(others) - 1:,} other files"
        )
    cells = {name: [match[name] for match in matches if match] for name in names}
    return Rows(files, cells, [str(file) for file in files])


def of_texts(files: Sequence[Path], column: str, unused: Unused) -> tuple[Rows, frozenset[Path]]:
    """Transcripts that lie beside ``files``: NAME.txt, or the lines of a *.trans.txt; these files.

    Sounds without one are counted. Raises ``ValueError`` naming what cannot be read.
    """
    listed = [
        file
        for place in dict.fromkeys(file.parent for file in files)
        for file in sorted(place.glob(f"*{MANY}"))
    ]
    many: dict[Path, dict[str, tuple[str, str]]] = {}
    for file in listed:
        many.setdefault(file.parent, {}).update(_lines(file))
    used = set(listed)
    kept: list[tuple[Path, str, str]] = []
    for file in files:
        own = file.with_suffix(BESIDE)
        lines = many.get(file.parent, {})
        if file.stem in lines:
            kept.append((file, *lines[file.stem]))
        elif own.is_file():
            kept.append((file, " ".join(_text(own).split()), str(own)))
            used.add(own)
        else:
            unused.add("sounds without a transcript", file.name, images=True)
    if not kept:
        raise ValueError(
            f"{files[0]} has no transcript beside it, nor has any other: give a table as "
            "data.transcripts=FILE, or data.pattern='{text}' where the names of the files are that"
        )
    sounds, texts, places = zip(*kept, strict=True)
    return Rows(sounds, {column: texts}, places), frozenset(used)


def by_folder(rows: Rows, place: Path) -> dict[str, Rows]:
    """The rows of each split, by the first folder below ``place``; else all are ``train``."""
    split_of = {
        file: split for split, files in by_split(rows.files, place).items() for file in files
    }
    found: dict[str, list[int]] = {}
    for row, file in enumerate(rows.files):
        found.setdefault(split_of[file], []).append(row)
    return {split: rows.only(own) for split, own in found.items()}


def matching(rows: Rows, where: Mapping[str, str | int]) -> tuple[list[int], list[int]]:
    """Rows of which not all, and of which all columns match a pattern such as ``[0-4]``.

    ``file`` is the name of the file. Raises ``ValueError`` where that leaves either empty.
    """
    columns = {
        name: [file.name for file in rows.files]
        if name == FILE and name not in rows.cells
        else rows.column(name, "test_where")
        for name in where
    }
    train: list[int] = []
    test: list[int] = []
    for row in range(len(rows)):
        fits = all(fnmatchcase(columns[name][row], str(one)) for name, one in where.items())
        (test if fits else train).append(row)
    if not test or not train:
        raise ValueError(
            f"test_where={dict(where)} is of {'no' if not test else 'every'} sound of {len(rows):,}"
        )
    return train, test


def divided(
    rows: Rows, by: RowSplits, classes: Tensor, test: float | None, class_names: Sequence[str] = ()
) -> dict[str, Rows]:
    """The rows of each split by a column; ``test`` is the fraction set aside, None: none."""
    column = None
    if by.column is not None:
        cells = list(rows.column(by.column, by.key[0]))
        place = rows.places[0].partition(", line")[0]
        column = by.of_cells(place, cells, lambda row: row + 1)
    parts = by.parts(column, classes, test, class_names)
    return {name: rows if own is None else rows.only(own.tolist()) for name, own in parts.items()}


def _table(path: Path) -> Cells:
    ending = path.suffix.lower()
    if ending in JSON_LINES:
        return read_json_lines(path, [])
    return (read_tab_lines(path) if ending in TABS else None) or read_csv(path)


def _lines(path: Path) -> dict[str, tuple[str, str]]:
    """Transcript and place by the name that its line begins with."""
    found: dict[str, tuple[str, str]] = {}
    # A line of a file ends by \n alone: other marks that Unicode has may stand within a transcript.
    for number, line in enumerate(_text(path).split("\n"), 1):
        name, _, text = line.strip().partition(" ")
        if name:
            found[name] = (text.strip(), f"{path}, line {number}")
    return found


def _text(path: Path) -> str:
    try:
        text = read_text(path, encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no UTF-8 text: {error.reason} at byte {error.start}"
        ) from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise ValueError(f"{path}, line {line} has a NUL byte: this is no text")
    return text


def codes(cells: Sequence[str]) -> Tensor:
    """A number for each different cell (rows,)."""
    levels = {cell: number for number, cell in enumerate(dict.fromkeys(cells))}
    return torch.tensor([levels[cell] for cell in cells])
