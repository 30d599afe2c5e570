"""Anyone's own texts: a column of them and a column of their classes, in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from dltrain.data.tables.cells import Cells
from dltrain.data.tables.csv_text import read_csv
from dltrain.data.tables.values import sorted_levels
from dltrain.data.text.json_lines import read_json_lines
from dltrain.data.text.source import TextSource
from dltrain.data.text.tokenized import Corpus, Texts, fingerprint

JSON_LINES = (".jsonl", ".ndjson", ".json")
FEW = 20
"""So many classes are never too many."""


class TextCsv(TextSource):
    """Texts and classes by columns of a file: .csv, .tsv or, one object a line, .jsonl.

    ``test`` is a fraction of its rows, or a second file with the same columns. ``separator`` null
    is the one that parts the first lines into columns of equal number. Each different cell of
    ``label`` is a class; a row without one is refused or, with ``missing`` drop, left out and
    counted.
    """

    def __init__(
        self,
        path: str,
        text: str,
        label: str,
        test: float | str = 0.2,
        separator: str | None = None,
        missing: Literal["refuse", "drop"] = "refuse",
        **common: Any,
    ) -> None:
        if text == label:
            raise ValueError(f"text and label are both the column {text!r}")
        self.path = Path(path).expanduser()
        self.text, self.label = text, label
        self.separator, self.missing = separator, missing
        self.second = Path(test).expanduser() if isinstance(test, str) else None
        super().__init__(**common if isinstance(test, str) else common | {"test": test})

    def key(self) -> dict[str, Any]:
        """The files as they lie there, and which columns."""
        files = [path for path in (self.path, self.second) if path is not None]
        return {
            "source": "table",
            "files": [fingerprint(path.absolute()) for path in files],
            "columns": [self.text, self.label, self.separator],
            "missing": self.missing,
        }

    def corpus(self) -> Corpus:
        """Read the file, or both."""
        warnings: list[str] = []
        train = self._cells(self.path, warnings)
        names = sorted_levels(train.columns[self.label])
        if len(names) > max(FEW, len(train.lines) / 2):
            raise ValueError(
                f"{train.name}: column {self.label!r} has {len(names):,} different values in "
                f"{len(train.lines):,} rows, such as {names[0][:40]!r}: these are no classes"
            )
        parts = {"train": train}
        if self.second is not None:
            parts["test"] = self._cells(self.second, warnings)
        splits = {
            split: Texts(cells.columns[self.text], cells.classes(self.label, names))
            for split, cells in parts.items()
        }
        return Corpus(train.name, names, splits, warnings=warnings)

    def _cells(self, path: Path, warnings: list[str]) -> Cells:
        """The rows that have a class; ``warnings`` of the others."""
        is_json = path.suffix.lower() in JSON_LINES
        cells = read_json_lines(path) if is_json else read_csv(path, self.separator)
        cells.require(self.text)
        cells.require(self.label)
        without = {row for row, cell in enumerate(cells.columns[self.label]) if not cell}
        if without and self.missing == "refuse":
            raise ValueError(
                f"{cells.place(min(without), self.label)} is empty, and {len(without):,} rows "
                "have no class. Set data.missing=drop to leave them out."
            )
        if without:
            warnings.append(f"{cells.name}: {len(without):,} rows without a class dropped.")
        return cells.without(without)
