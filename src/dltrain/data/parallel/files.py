"""Where translations lie: two files that belong together line by line, or columns of one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dltrain.config.suggest import did_you_mean
from dltrain.data.parallel.lines import PACKED, read_lines

logger = logging.getLogger(__name__)

STEMS = {
    "train": ("train",),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test",),
}
"""What files of a split are called, before the dot and the language."""


@dataclass(frozen=True)
class Pairs:
    """``sources`` and ``targets``, and the ``lines`` of the file ``name`` that each is from."""

    name: str
    sources: Sequence[str]
    targets: Sequence[str]
    lines: Sequence[int]

    def __len__(self) -> int:
        return len(self.lines)

    def only(self, rows: Sequence[int]) -> Pairs:
        """Those of the rows given."""
        sources, targets = (
            [column[row] for row in rows] for column in (self.sources, self.targets)
        )
        return Pairs(self.name, sources, targets, [self.lines[row] for row in rows])


def files_of(
    folder: Path, source: str, target: str, given: Mapping[str, str | None]
) -> dict[str, tuple[Path, Path]]:
    """The two files of each split, ``STEM.LANGUAGE`` or ``STEM.LANGUAGE.gz``.

    ``given`` are stems by split, None: what such files are called. Of several test sets the first
    is taken, and the others are named. Raises ``ValueError`` where there are none to train on.
    """
    sides = [_stems(folder, language) for language in (source, target)]
    both = sorted(sides[0].keys() & sides[1].keys())
    if not both:
        languages = ", ".join(_languages(folder)) or "no files of texts"
        missing = target if sides[0] else source
        raise ValueError(
            f"{folder} has no files NAME.{source} and NAME.{target}, nor NAME.{missing}.gz; "
            f"it has {languages}"
        )
    found = {}
    for split, names in STEMS.items():
        stem = given.get(split)
        if stem is not None and stem not in both:
            hint = did_you_mean(stem, both) or f"There are {', '.join(both)}."
            raise ValueError(
                f"{split}: {folder} has no {stem}.{source} and {stem}.{target}. {hint}"
            )
        stems = [stem] if stem else [name for name in names if name in both]
        if split == "test" and not stems:
            stems = [name for name in both if name.startswith("test")]
        if len(stems) > 1:
            others = ", ".join(stems[1:])
            logger.warning(
                "%s: %s is the %s split; there are also %s (data.%s=NAME).",
                *(folder, stems[0], split, others, split),
            )
        if stems:
            found[split] = (sides[0][stems[0]], sides[1][stems[0]])
    if "train" not in found:
        raise ValueError(f"{folder} has no train.{source} and train.{target}; it has {both}")
    return found


def read_files(source: Path, target: Path) -> Pairs:
    """Lines that belong together. Raises ``ValueError`` where there are not as many in both."""
    sources, targets = read_lines(source), read_lines(target)
    if len(sources) != len(targets):
        raise ValueError(
            f"{source} has {len(sources):,} lines and {target.name} {len(targets):,}: each line "
            "must be the translation of the same line of the other"
        )
    return Pairs(str(source), sources, targets, range(1, len(sources) + 1))


def read_columns(path: Path, source: str, target: str) -> Pairs:
    """Columns of a tab-separated file, by their numbers from 1 or by the names in its first line.

    Raises ``ValueError`` naming the line that has too few cells, or the column that is none.
    """
    rows = [line.split("\t") for line in read_lines(path)]
    numbered = source.isdecimal() and target.isdecimal()
    first = 0 if numbered else 1
    places = [_place(path, rows[0], word, numbered) for word in (source, target)]
    if len(rows) <= first:
        raise ValueError(f"{path} has no line below the names of its columns")
    for number, row in enumerate(rows[first:], first + 1):
        if len(row) <= max(places):
            raise ValueError(
                f"{path}, line {number} has {len(row)} cells between tabs, and column "
                f"{max(places) + 1} is asked for"
            )
    sources, targets = ([row[place] for row in rows[first:]] for place in places)
    return Pairs(str(path), sources, targets, range(first + 1, len(rows) + 1))


def _place(path: Path, header: Sequence[str], word: str, numbered: bool) -> int:
    if numbered:
        if int(word) < 1:
            raise ValueError(f"{path}: columns are counted from 1, got {word}")
        return int(word) - 1
    names = [name.strip() for name in header]
    if word not in names:
        hint = did_you_mean(word, names) or "Give its name in the first line, or its number from 1."
        raise ValueError(f"{path} has no column {word!r}. {hint}")
    return names.index(word)


def _stems(folder: Path, language: str) -> dict[str, Path]:
    found = {}
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(PACKED)
        if name.endswith(f".{language}") and not path.is_dir():
            found[name.removesuffix(f".{language}")] = path
    return found


def _languages(folder: Path) -> list[str]:
    """What stands behind the last dot of the files' names."""
    names = [path.name.removesuffix(PACKED) for path in folder.iterdir() if not path.is_dir()]
    return sorted({name.rpartition(".")[2] for name in names if "." in name})
