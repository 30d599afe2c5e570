"""Anyone's own texts: a column of them and a column of their classes, in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from dltrain.contracts.paths import FilePath
from dltrain.data.streams.division import Division
from dltrain.data.streams.in_memory import Split
from dltrain.data.tables.cells import Cells
from dltrain.data.tables.csv_text import read_csv
from dltrain.data.tables.dividing import RowSplits
from dltrain.data.tables.values import sorted_levels
from dltrain.data.text.json_lines import read_json_lines
from dltrain.data.text.labels import alike, merged, spellings
from dltrain.data.text.reader import joined
from dltrain.data.text.scripts import without_ignorable
from dltrain.data.text.source import TextSource
from dltrain.data.text.tab_lines import read_tab_lines
from dltrain.data.text.tokenized import Corpus, Texts, fingerprint

JSON_LINES = (".jsonl", ".ndjson", ".json")
TABS = (".tsv", ".tab")
FEW = 20
"""So many classes are never too many."""


class TextCsv(TextSource):
    """Texts and classes by columns of a file: .csv, .tsv, .jsonl (objects), .json (a list of them).

    ``test`` and ``validation`` are fractions of its rows, or other files with the same columns.
    ``header`` names the columns of tab-separated files that do not.
    ``separator`` null is the one that parts the first lines into columns of equal number;
    ``encoding`` null is UTF-8, or what a byte order mark says; JSON is UTF-8 always. Of several
    ``text`` columns the cells are joined by blanks. Each different cell of ``label`` is a class,
    but for spellings that look alike or are one number; a row without one is refused or, with
    ``missing`` drop, left out and counted. ``group``, ``order`` or ``split_column`` is a column by
    which the rows are split (:class:`~dltrain.data.tables.dividing.RowSplits`).
    """

    def __init__(
        self,
        path: FilePath,
        text: str | Sequence[str],
        label: str,
        test: float | FilePath = 0.2,
        validation: float | FilePath = 0.1,
        separator: str | None = None,
        header: Sequence[str] | None = None,
        missing: Literal["refuse", "drop"] = "refuse",
        group: str | None = None,
        order: str | None = None,
        split_column: str | None = None,
        encoding: str | None = None,
        **common: Any,
    ) -> None:
        self.path = Path(path).expanduser()
        self.columns = [text] if isinstance(text, str) else list(text)
        if not self.columns:
            raise ValueError("text names no column")
        if label in self.columns:
            raise ValueError(f"text and label are both the column {label!r}")
        self.label = label
        self.separator, self.encoding, self.missing = separator, encoding, missing
        if header is not None and (not header or len(set(header)) < len(header)):
            raise ValueError(f"header is a different name for each column, got {list(header)}")
        self.header = None if header is None else list(header)
        self.row_splits = RowSplits(group, order, split_column)
        if self.row_splits.column in (*self.columns, label):
            raise ValueError(
                f"the column {self.row_splits.column!r} is text or label, and cannot split the rows"
            )
        given = {"test": test, "validation": validation}
        self.files = {"train": self.path}
        for split, value in given.items():
            if isinstance(value, str):
                self.files[split] = Path(value).expanduser()
            else:
                common[split] = value
        super().__init__(**common)

    def paths(self) -> list[Path]:
        """The file, and those of splits that have one of their own."""
        return list(self.files.values())

    def key(self) -> dict[str, Any]:
        """The files as they lie there, and which columns."""
        return {
            "source": "table",
            "files": {split: fingerprint(path.absolute()) for split, path in self.files.items()},
            "columns": [self.columns, self.label, self.separator],
            "missing": self.missing,
            **({"header": self.header} if self.header else {}),
            **({"encoding": self.encoding} if self.encoding else {}),
            **({"split by": self.row_splits.key} if self.row_splits.column else {}),
        }

    def division(self, train: Split) -> Division:
        """By the column that splits the rows, where there is one."""
        groups = torch.tensor(self._known().groups) if self.row_splits.group else None
        return self.row_splits.division(groups) or super().division(train)

    def corpus(self) -> Corpus:
        notes: list[str] = []
        warnings: list[str] = []
        parts = {split: self._cells(path, notes, warnings) for split, path in self.files.items()}
        train = parts["train"]
        classes = spellings(cell for part in parts.values() for cell in part.columns[self.label])
        notes += [f"{train.name}: {line}" for line in merged(classes)]
        for part in parts.values():
            part.columns[self.label] = [classes[cell] for cell in part.columns[self.label]]
        names = sorted_levels(train.columns[self.label])
        if len(names) > max(FEW, len(train.lines) / 2):
            raise ValueError(
                f"{train.name}: column {self.label!r} has {len(names):,} different values in "
                f"{len(train.lines):,} rows, such as {names[0][:40]!r}: these are no classes"
            )
        warnings += [f"{train.name}: {line}" for line in alike(names)]
        splits = {
            split: Texts(_texts(cells, self.columns), cells.classes(self.label, names))
            for split, cells in parts.items()
        }
        if self.row_splits.column is not None:
            divided = self._divided(parts, splits.pop("train"), names, warnings)
            if twice := divided.keys() & splits:
                raise ValueError(
                    f"column {self.row_splits.column!r} names rows of the split {min(twice)!r}, "
                    "which is a file"
                )
            splits = divided | splits
        groups = self.row_splits.groups
        return Corpus(
            *(train.name, names, splits, notes, warnings),
            () if groups is None else groups.tolist(),
        )

    def _divided(
        self,
        parts: Mapping[str, Cells],
        texts: Texts,
        names: Sequence[str],
        warnings: list[str],
    ) -> dict[str, Texts]:
        """The splits that the file itself has, by the column that splits the rows."""
        by = self.row_splits
        columns = {
            split: by.of_cells(cells.name, cells.columns[by.column], cells.lines.__getitem__)
            for split, cells in parts.items()
            if by.column in cells.columns and (split == "train" or by.group)
        }
        column = columns["train"]
        for split, other in columns.items():
            if split != "train":
                line = by.shared(column, parts["train"].name, other, parts[split].name)
                warnings += [line] if line else []
        fraction = None if "test" in parts else self._reading.test
        rows = by.parts(column, torch.tensor(texts.targets), fraction, names)
        return {
            name: texts if own is None else texts.only(own.tolist()) for name, own in rows.items()
        }

    def _cells(self, path: Path, notes: list[str], warnings: list[str]) -> Cells:
        """The rows that have a class; ``warnings`` of the others."""
        used = [*self.columns, self.label]
        if self.row_splits.column is not None and path == self.path:
            used.append(self.row_splits.column)
        cells = self._table(path, used)
        for name in used:
            cells.require(name)
        unused = [name for name in cells.columns if name not in used]
        if unused:
            notes.append(f"{cells.name}: unused columns: {', '.join(unused)}.")
        labels = map(without_ignorable, cells.columns[self.label])
        without = {row for row, label in enumerate(labels) if not label.strip()}
        if without and self.missing == "refuse":
            raise ValueError(
                f"{cells.place(min(without), self.label)} is empty, and {len(without):,} rows "
                "have no class. Set data.missing=drop to leave them out."
            )
        if without:
            warnings.append(f"{cells.name}: {len(without):,} rows without a class dropped.")
        return cells.without(without)

    def _table(self, path: Path, used: Sequence[str]) -> Cells:
        """All cells of a file."""
        ending = path.suffix.lower()
        if ending in JSON_LINES:
            if self.encoding is not None:
                raise ValueError(f"{path}: encoding is of tables; JSON is UTF-8")
            return read_json_lines(path, used)
        tabs = self.separator in ("tab", "\t", "\\t")
        tabs = tabs or (self.separator is None and ending in TABS)
        if self.header is not None and not tabs:
            raise ValueError(
                f"{path}: header is for tab-separated files; set data.separator=tab where it is "
                "one, or write the names into its first line"
            )
        if self.header is not None:
            found = read_tab_lines(path, self.header, self.encoding)
            assert found is not None, "with a header it raises"
            return found
        found = read_tab_lines(path, encoding=self.encoding) if tabs else None
        return found or read_csv(path, self.separator, self.encoding, configured=True)


def _texts(cells: Cells, names: Sequence[str]) -> list[str]:
    """A text of each row: its cells of the columns ``names``."""
    rows = zip(*(cells.columns[name] for name in names), strict=True)
    return [joined(row) for row in rows]
