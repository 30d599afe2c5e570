"""Anyone's own table as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dltrain.contracts.paths import FilePath, PathInRoot
from dltrain.data.tables.columns import ColumnsTable
from dltrain.data.tables.files import read_table
from dltrain.data.tables.raw import RawTable


class CsvTable(ColumnsTable):
    """A file with a header: ``path``, relative to ``root`` where that is given.

    Its ending says how it is read: .parquet, .jsonl (an object a line) or .xlsx (the first sheet),
    else as separated values. ``test`` is a fraction of its rows, or a second file with the same
    columns. ``separator`` null is the one that parts the first lines into columns of equal number;
    ``encoding`` null is UTF-8, or what a byte order mark says.
    """

    def __init__(
        self,
        path: PathInRoot,
        test: float | PathInRoot = 0.2,
        separator: str | None = None,
        encoding: str | None = None,
        root: FilePath | None = None,
        **columns: Any,
    ) -> None:
        folder = Path(root or ".").expanduser()
        self.path = folder / Path(path).expanduser()
        self.separator, self.encoding = separator, encoding
        self.test: Path | float
        if isinstance(test, str):
            self.test = folder / Path(test).expanduser()
        elif 0 < test < 1:
            self.test = float(test)
        else:
            raise ValueError(f"test is a fraction between 0 and 1, or a second file; got {test}")
        super().__init__(root=root, **columns)

    def paths(self) -> list[Path]:
        """The file, or both."""
        return [self.path] if isinstance(self.test, float) else [self.path, self.test]

    def tables(self) -> tuple[RawTable, RawTable | float]:
        """Read the file, or both."""
        train = self._read(self.path)
        return train, self.test if isinstance(self.test, float) else self._read(self.test)

    def _read(self, path: Path) -> RawTable:
        texts = {*self.categorical, *self.embed, *self.media.columns} | (
            {self.target} if self.kind == "classification" else set()
        )
        return read_table(path, self.separator, self.encoding, self.format, texts)
