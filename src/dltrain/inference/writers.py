"""Where answers are written to: lines for people, csv, JSON, Parquet and Excel, part by part."""

from __future__ import annotations

import csv
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size

from dltrain.errors import UserError, printable, printable_json

WIDTH = 80
LEAST = 12
"""Letters of an example's name that are shown."""

IMAGES = "answer"
"""The column of answers that are images."""

FORECAST = "forecast"
"""The column of the steps that were forecast of an example."""

Columns = Mapping[str, Sequence[Any]]


def by_step(columns: Columns) -> Columns:
    """Forecasts as rows of their own, a step each, beside what else is known of their example."""
    if FORECAST not in columns:
        return columns
    steps = columns[FORECAST]
    found: dict[str, list[Any]] = {
        name: [cell for cell, some in zip(cells, steps, strict=True) for _ in some]
        for name, cells in columns.items()
        if name != FORECAST
    }
    for name in steps[0][0]:
        found[name if name not in found else f"{FORECAST} {name}"] = [
            step[name] for some in steps for step in some
        ]
    return found


class Writer(ABC):
    """Takes in columns of equal length, part after part, always of the same names."""

    place: Path | None = None
    """Where it writes, if it has chosen that itself."""

    @abstractmethod
    def write(self, columns: Columns) -> None:
        """Write a part's rows."""

    def close(self) -> None:
        """No part follows."""
        return None


class CsvWriter(Writer):
    """Separated values, with a header."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._writer = file, csv.writer(file, lineterminator="\n")
        self._begun = False

    def write(self, columns: Columns) -> None:
        if not self._begun:
            self._writer.writerow(columns)
            self._begun = True
        self._writer.writerows(zip(*_flat(columns).values(), strict=True))

    def close(self) -> None:
        self._file.flush()


class JsonWriter(Writer):
    """A list of objects, or, with ``lines``, an object a line. A number that is none is null."""

    def __init__(self, file: TextIO, lines: bool) -> None:
        self._file, self._lines = file, lines
        self._begun = False

    def write(self, columns: Columns) -> None:
        for row in zip(*columns.values(), strict=True):
            cells = map(json_cell, row)
            row_of = dict(zip(columns, cells, strict=True))
            text = printable_json(json.dumps(row_of, ensure_ascii=False))
            if self._lines:
                self._file.write(f"{text}\n")
            else:
                self._file.write(f"{',' if self._begun else '['}\n{text}")
            self._begun = True

    def close(self) -> None:
        if not self._lines:
            self._file.write("\n]\n" if self._begun else "[]\n")
        self._file.flush()


class ParquetWriter(Writer):
    """A Parquet file; a row group a part."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write(self, columns: Columns) -> None:
        import pyarrow as pa
        import pyarrow.parquet

        table = pa.table({name: list(cells) for name, cells in _flat(columns).items()})
        if self._writer is None:
            self._writer = pa.parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table.cast(self._writer.schema))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class ExcelWriter(Writer):
    """The one sheet of an Excel file. A number that is none is empty; no text is a formula.

    Raises :class:`UserError` where openpyxl is missing, and beyond the rows that a sheet holds.
    """

    ROWS = 1_048_576
    """Of a sheet, its header among them."""

    def __init__(self, path: Path) -> None:
        try:
            import openpyxl
        except ImportError as error:
            raise UserError(
                "--out: writing Excel needs openpyxl: pip install 'dltrain[excel]'"
            ) from error
        self._path, self._book, self._rows = path, openpyxl.Workbook(write_only=True), 0
        self._sheet = self._book.create_sheet("predictions")

    def write(self, columns: Columns) -> None:
        if not self._rows:
            self._append(columns)
        for row in zip(*_flat(columns).values(), strict=True):
            self._append(row)

    def _append(self, row: Iterable[Any]) -> None:
        if self._rows == self.ROWS:
            raise UserError(f"--out: an Excel sheet holds {self.ROWS - 1:,} rows: write .csv.")
        self._sheet.append([self._cell(cell) for cell in row])
        self._rows += 1

    def _cell(self, value: Any) -> Any:
        from openpyxl.cell import WriteOnlyCell
        from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

        value = json_cell(value)
        if not isinstance(value, str):
            return value
        cell = WriteOnlyCell(
            self._sheet, ILLEGAL_CHARACTERS_RE.sub("\N{REPLACEMENT CHARACTER}", value)
        )
        cell.data_type = "s"
        return cell

    def close(self) -> None:
        self._book.save(self._path)


class FolderWriter(Writer):
    """Images as .png files in a folder, each called after its example and its place among them.

    ``out`` is the folder, or with an ending the one image.
    """

    def __init__(self, out: Path) -> None:
        self._single = out if out.suffix else None
        self._folder = out.parent if out.suffix else out
        self._count = 0

    def write(self, columns: Columns) -> None:
        """Write the column ``IMAGES``, of images (channels, height, width) of values in 0..1."""
        from dltrain.reports.samples import single, to_bytes

        names = next(iter(columns.values()))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for name, image in zip(names, columns[IMAGES], strict=True):
                self._count += 1
                if self._single is not None and self._count > 1:
                    raise UserError(
                        f"--out: {self._single} is one image: give a folder for several."
                    )
                path = self._folder / f"{self._count:05}_{Path(str(name)).stem[:80]}.png"
                path = self._single or path
                path.write_bytes(single(to_bytes(image[None])[0]))
        except OSError as error:
            raise UserError(f"--out: {self._folder}: {error.strerror}.") from error


class ShownWriter(Writer):
    """A table for people by ``lines``, or images into ``folder``, as answers turn out to be."""

    def __init__(self, lines: Writer, folder: Path) -> None:
        self._lines, self._files, self._folder = lines, FolderWriter(folder), folder

    def write(self, columns: Columns) -> None:
        if IMAGES in columns:
            self._files.write(columns)
            self.place = self._folder
        else:
            self._lines.write(columns)


class LineWriter(Writer):
    """A table of ``width`` columns for people; the first column takes the room that is left."""

    def __init__(self, file: TextIO, width: int = WIDTH) -> None:
        self._file, self._width = file, width
        self._wide: list[int] = []

    def write(self, columns: Columns) -> None:
        shown = {name: [_shown(cell) for cell in cells] for name, cells in _paired(columns).items()}
        if not self._wide:
            self._fit(shown)
            self._line(list(shown))
        for row in zip(*shown.values(), strict=True):
            self._line(row)
        self._file.flush()

    def _fit(self, shown: Mapping[str, Sequence[str]]) -> None:
        """The width of each column, by the first part; what has no room is left out."""
        wide = [max(map(cell_len, (name, *cells))) for name, cells in shown.items()]
        first = min(wide[0], max(LEAST, self._width - sum(wide[1:]) - 2 * len(wide[1:])))
        self._wide = [first]
        for column in wide[1:]:
            left = self._width - sum(self._wide) - 2 * len(self._wide)
            if left < min(column, LEAST):
                break
            self._wide.append(min(column, left))

    def _line(self, cells: Sequence[str]) -> None:
        shown = [_fitted(cell, wide) for cell, wide in zip(cells, self._wide, strict=False)]
        self._file.write("  ".join(shown).rstrip() + "\n")


class FileWriter(Writer):
    """Writes the file ``path``, by its ending; a file that was there stays until there is a row.

    Raises :class:`UserError` for an ending that says nothing, and a file that cannot be written.
    """

    def __init__(self, path: Path) -> None:
        suffix = path.suffix.lower()
        if suffix not in ENDINGS:
            raise UserError(f"--out: {path} ends in none of {', '.join(ENDINGS)}.")
        self._path, self._begun = path, path.with_name(f".{path.name}.{os.getpid()}")
        self._some = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                path.open("a").close()  # a file that may not be written is not replaced either
            self._file = self._begun.open(
                "w", encoding="utf-8", newline="", errors="backslashreplace"
            )
        except OSError as error:
            raise UserError(f"--out: {path} cannot be written: {error.strerror}.") from error
        try:
            self._writer = ENDINGS[suffix](self._file, self._begun)
        except UserError:
            self._file.close()
            self._begun.unlink()
            raise

    def write(self, columns: Columns) -> None:
        self._writer.write(columns)
        self._some = True

    def close(self) -> None:
        """Put the file in its place; without a row there is none."""
        if self._some:
            self._writer.close()
        self._file.close()
        if self._some:
            self._begun.replace(self._path)
        else:
            self._begun.unlink()


ENDINGS: Mapping[str, Callable[[TextIO, Path], Writer]] = {
    ".csv": lambda file, path: CsvWriter(file),
    ".json": lambda file, path: JsonWriter(file, lines=False),
    ".jsonl": lambda file, path: JsonWriter(file, lines=True),
    ".parquet": lambda file, path: ParquetWriter(path),
    ".xlsx": lambda file, path: ExcelWriter(path),
}


def _flat(columns: Columns) -> dict[str, Sequence[Any]]:
    """Cells that are lists as the JSON of these: a table has no others in its cells."""
    return {
        name: [json.dumps(c, ensure_ascii=False) if isinstance(c, list) else c for c in cells]
        for name, cells in columns.items()
    }


def json_cell(cell: Any) -> Any:
    """A cell as JSON has it: a number that is none is null."""
    if isinstance(cell, list):
        return cell
    if isinstance(cell, float) and not math.isfinite(cell):
        return None
    return cell if isinstance(cell, (str, int, float, bool, type(None))) else str(cell)


def _paired(columns: Columns) -> dict[str, Sequence[Any]]:
    """With a class and its number as one column, from the second class on."""
    found: dict[str, Sequence[Any]] = {}
    for name, cells in columns.items():
        stem, _, rank = name.rpartition("_")
        if rank.isdigit() and stem in columns:
            before = found.get(f"#{rank}")
            joined = cells if before is None else _joined(before, cells)
            found[f"#{rank}"] = joined
        else:
            found[name] = cells
    return found


def _joined(names: Sequence[Any], numbers: Sequence[Any]) -> list[str]:
    return [f"{a} {_shown(b)}" for a, b in zip(names, numbers, strict=True)]


def _shown(cell: Any) -> str:
    text = f"{cell:.4g}" if isinstance(cell, float) and abs(cell) <= 1 else cell
    text = f"{text:.7g}" if isinstance(text, float) else str(text)
    return printable(" ".join(text.split()))


def _fitted(text: str, wide: int) -> str:
    if cell_len(text) <= wide:
        return set_cell_size(text, wide)
    return set_cell_size(text, wide - 1).rstrip() + "…"
