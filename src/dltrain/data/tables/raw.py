"""A table as it was found in a file: columns by name, of whatever type the file has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dltrain.data.tables.cells import no_column

if TYPE_CHECKING:
    import pyarrow as pa


UNNAMED = re.compile(r"Unnamed: \d+")


@dataclass(frozen=True)
class RawTable:
    """``columns`` of ``rows`` cells each, texts or typed.

    ``locate`` says where in ``name`` a row stands, such as ``line 12``. ``left_out`` has what could
    not be taken, by column, and why. ``written`` gives a cell of a row as its file has it.
    """

    name: str
    rows: int
    columns: dict[str, pa.ChunkedArray]
    locate: Callable[[int], str]
    left_out: Mapping[str, str] = field(default_factory=dict)
    written: Callable[[int, str], str] | None = None

    def taken(self, rows: Any) -> list[dict[str, Any]]:
        """Some rows, an array of their numbers, as mappings from column to cell."""
        names = list(self.columns)
        cells = [column.take(rows).to_pylist() for column in self.columns.values()]
        return [dict(zip(names, row, strict=True)) for row in zip(*cells, strict=True)]

    def text(self, row: int, column: str) -> str:
        """What a missing cell holds, as it is written; nothing where it has no text."""
        if self.written is not None:
            return self.written(row, column)
        cell = self.columns[column][row].as_py()
        return cell.strip() if isinstance(cell, str) else ""

    def place(self, row: int, column: str) -> str:
        """Where a cell is, for a message."""
        return f"{self.name}, {self.locate(row)}, column {column!r}"

    def require(self, name: str) -> None:
        """Raise ``ValueError`` listing the columns there are, unless ``name`` is one."""
        if name in self.left_out:
            raise ValueError(f"{self.name}: column {name!r} cannot be used: {self.left_out[name]}")
        if name not in self.columns:
            raise no_column(self.name, name, self.columns)


def usable(
    names: Sequence[str], columns: Sequence[pa.ChunkedArray]
) -> tuple[dict[str, pa.ChunkedArray], dict[str, str]]:
    """The columns that can be features or a target; and the others, each with the reason.

    A column without a name is no one's choice: pandas writes its row numbers so, and names them
    ``Unnamed: 0`` where it has read them again.
    """
    import pyarrow.types as kinds

    kept, left_out = {}, {}
    for position, (name, column) in enumerate(zip(names, columns, strict=True), 1):
        kind = column.type.value_type if kinds.is_dictionary(column.type) else column.type
        plain = (
            *(kinds.is_string, kinds.is_large_string, kinds.is_string_view, kinds.is_boolean),
            *(kinds.is_integer, kinds.is_floating, kinds.is_decimal, kinds.is_null),
            *(kinds.is_date, kinds.is_timestamp),
        )
        if not name or UNNAMED.fullmatch(name):
            left_out[name or f"(column {position})"] = "it has no name"
        elif not any(is_kind(kind) for is_kind in plain):
            left_out[name] = f"it holds {kind}"
        else:
            kept[name] = column
    return kept, left_out
