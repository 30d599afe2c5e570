"""Sounds with a class each: one folder a class, a table, or what the files are called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dltrain.contracts.data import Field, Labeled
from dltrain.contracts.paths import FilePath
from dltrain.data.audio.listing import sound_files
from dltrain.data.audio.rows import Rows, by_folder, codes, of_pattern, of_table
from dltrain.data.audio.source import AudioSource
from dltrain.data.images.layout import Layout, find_splits
from dltrain.data.streams.ragged import Ragged
from dltrain.data.tables.values import sorted_levels
from dltrain.errors import UserError

FEW = 20
"""So many classes are never too many."""


class AudioFolder(AudioSource):
    """Sounds in ``path``: a folder for each class, or such folders in train, val and test.

    ``layout`` and ``splits`` are as in :class:`~dltrain.data.images.image_folder.ImageFolder`.
    Instead of the folders, ``labels`` may be a table with a column of files and others, or
    ``pattern`` what the files are called, such as ``{label}_{speaker}_{index}``: each name in
    braces is a column. The class is then in the column ``label``.

    The other arguments are those of :class:`~dltrain.data.audio.source.AudioSource`.
    """

    def __init__(
        self,
        path: FilePath,
        layout: Layout = "auto",
        splits: Mapping[str, str] | None = None,
        labels: FilePath | None = None,
        pattern: str | None = None,
        label: str = "label",
        **common: Any,
    ) -> None:
        super().__init__(path, **common)
        if labels is not None and pattern is not None:
            raise ValueError("labels and pattern both say what the sounds are: give one of them")
        by_folders = splits is not None or layout != "auto"
        if by_folders and (labels is not None or pattern is not None):
            raise ValueError("labels and pattern come without layout and splits, which are folders")
        if splits is not None and layout != "auto":
            raise ValueError("splits say what the folders are: layout is auto then")
        self.layout, self.folders, self.pattern, self.label = layout, splits, pattern, label
        self.labels = None if labels is None else Path(labels).expanduser()
        self.class_names: Sequence[str] = ()

    def paths(self) -> list[Path]:
        """The folder, and the table of labels."""
        return [self.path, *([] if self.labels is None else [self.labels])]

    def target(self) -> Field:
        """A class."""
        names = tuple(self.class_names)
        return Field((), "class", "target", size=len(names) or None, names=names)

    def listed(self) -> dict[str, Rows]:
        """By table, pattern or folders."""
        if self.labels is not None or self.pattern is not None:
            files = self.files()
            if self.labels is not None:
                rows = of_table(self.labels, self.path, files, self.unused)
            else:
                assert self.pattern is not None
                rows = of_pattern(self.pattern, files)
            rows.column(self.label, "label")
            found = {"train": rows} if self._divides else by_folder(rows, self.path)
        else:
            self.require_folder()
            try:
                given = find_splits(
                    self.path, self.layout, self.unused, self.folders, sound_files, "sound"
                )
            except OSError as error:
                raise UserError(f"data.path: {error.filename}: {error.strerror}") from error
            found = {split: self._of_folders(classes) for split, classes in given.items()}
        if not len(found["train"]):
            raise ValueError(
                f"{self.path} has no folder with sounds: give each class one, or say by "
                "data.labels=FILE or data.pattern='{label}_…' what the sounds are"
            )
        return self.divided(found, codes(found["train"].cells[self.label]))

    def understand(self, parts: Mapping[str, Rows]) -> None:
        """Each different cell of the column is a class. Raises ``ValueError`` for too many."""
        train = parts["train"]
        names = sorted_levels(train.cells[self.label])
        if len(names) < 2:
            raise ValueError(
                f"{self.path}: every training sound is of one class, {names[0]!r}: there is "
                "nothing to learn"
            )
        if len(names) > max(FEW, len(train) / 2):
            raise ValueError(
                f"{self.path}: {self.label} has {len(names):,} different values of {len(train):,} "
                f"sounds, such as {names[0][:40]!r}: these are no classes"
            )
        if "" in names:
            row = list(train.cells[self.label]).index("")
            raise ValueError(f"{train.places[row]}: the column {self.label!r} is empty")
        self.class_names = names

    def columns(self, rows: Rows, sounds: Ragged) -> tuple[dict[str, Ragged], dict[str, Tensor]]:
        """The class of each."""
        return {}, {"target": self._classes(rows)}

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """The files themselves. Those set aside for validation count as training sounds."""
        for name in self.chosen(split):
            rows = self._rows[name]
            targets = self._classes(rows)
            for first in range(0, len(rows), self.evaluation_batch_size):
                part = slice(first, first + self.evaluation_batch_size)
                yield Labeled(rows.files[part], targets[part])

    def _classes(self, rows: Rows) -> Tensor:
        numbers = {name: number for number, name in enumerate(self.class_names)}
        cells = rows.cells[self.label]
        for cell, place in zip(cells, rows.places, strict=True):
            if cell not in numbers:
                raise ValueError(f"{place}: the training split has no class {cell!r}")
        return torch.tensor([numbers[cell] for cell in cells])

    @property
    def _divides(self) -> bool:
        """Whether a setting says which sounds are the test split."""
        return self.test_where is not None or self.row_splits.given

    def _of_folders(self, classes: Mapping[str, Sequence[Path]]) -> Rows:
        pairs = [(file, name) for name, files in classes.items() for file in files]
        files = [file for file, _ in pairs]
        return Rows(files, {self.label: [n for _, n in pairs]}, [str(file) for file in files])
