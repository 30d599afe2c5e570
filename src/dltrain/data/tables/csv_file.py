"""Anyone's own table as a file of comma- or tab-separated values."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from dltrain.contracts.paths import FilePath, PathInRoot
from dltrain.data.tables.columns import Cells, ColumnsTable

SEPARATORS = {".tsv": "\t", ".tab": "\t"}
"""By the file's ending; a comma for any other."""
LONGEST_CELL = 2**31 - 1
"""In characters."""


class CsvTable(ColumnsTable):
    """A file with a header: ``path``, relative to ``root`` where that is given.

    ``test`` is a fraction of its rows, or a second file with the same columns. ``separator`` null
    is a comma, or a tab for .tsv.
    """

    def __init__(
        self,
        path: PathInRoot,
        test: float | PathInRoot = 0.2,
        separator: str | None = None,
        root: FilePath | None = None,
        **columns: Any,
    ) -> None:
        folder = Path(root or ".").expanduser()
        self.path = folder / Path(path).expanduser()
        self.separator = separator
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

    def cells(self) -> tuple[Cells, Cells | float]:
        """Read the file, or both."""
        train = read_csv(self.path, self.separator)
        if isinstance(self.test, float):
            return train, self.test
        return train, read_csv(self.test, self.separator)


def read_csv(path: Path, separator: str | None = None) -> Cells:
    """Read a table of UTF-8 text whose first row names the columns; quoted cells may span lines.

    Raises ``ValueError`` naming file and line if it cannot be had or is not a table.
    """
    # The module's own limit of 131,072 characters is less than a long text's.
    csv.field_size_limit(LONGEST_CELL)
    columns: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            delimiter = separator or SEPARATORS.get(path.suffix.lower(), ",")
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            columns = [name.strip() for name in next(reader, [])]
            _check_header(columns, path)
            begins = reader.line_num + 1
            for row in reader:
                if row and len(row) != len(columns):
                    raise ValueError(
                        f"{path}, line {begins}: {len(row)} cells, but the header names "
                        f"{len(columns)} columns"
                    )
                if row:
                    rows.append(row)
                    lines.append(begins)
                begins = reader.line_num + 1
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}, line {_undecodable(path)}, is not UTF-8 text: save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from error
    if not rows:
        raise ValueError(f"{path} has a header but no row")
    cells = {
        name: [cell.strip() for cell in column]
        for name, column in zip(columns, zip(*rows, strict=True), strict=True)
    }
    return Cells(str(path), cells, lines)


def _undecodable(path: Path) -> int:
    """The number of the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    raise AssertionError("every line is UTF-8")


def _check_header(columns: list[str], path: Path) -> None:
    if not columns:
        raise ValueError(f"{path} is empty, or begins with an empty line")
    for position, name in enumerate(columns):
        if not name:
            raise ValueError(f"{path}, line 1: column {position + 1} has no name")
        if name in columns[:position]:
            raise ValueError(f"{path}, line 1: two columns are named {name!r}")
