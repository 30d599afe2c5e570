"""A table as lists of texts, for those who want its texts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dltrain.config.suggest import did_you_mean


def no_column(table: str, name: str, columns: Collection[str]) -> ValueError:
    """That ``table``, which has ``columns``, has none that is called ``name``."""
    found = f"It has {', '.join(columns)}.{full_width(columns)}"
    told = (f"{table} has no column {name!r}.", did_you_mean(name, columns), found)
    return ValueError(" ".join(filter(None, told)))


def full_width(columns: Collection[str]) -> str:
    """What is wrong where all columns are one, whose name has Chinese commas; else empty."""
    [name] = columns if len(columns) == 1 else [""]
    return " Its commas are full-width (，): write them as a comma (,)." if "，" in name else ""


@dataclass(frozen=True)
class Cells:
    """A table as it was found: ``columns`` by name, all of one length, stripped of blanks.

    ``lines`` says for each row where in the file ``name`` it begins.
    """

    name: str
    columns: dict[str, list[str]]
    lines: Sequence[int]

    def place(self, row: int, column: str) -> str:
        """Where a cell is, for a message."""
        return f"{self.name}, line {self.lines[row]}, column {column!r}"

    def require(self, name: str) -> None:
        """Raise ``ValueError`` listing the columns there are, unless ``name`` is one."""
        if name not in self.columns:
            raise no_column(self.name, name, self.columns)

    def classes(self, name: str, class_names: Sequence[str]) -> list[int]:
        """The class of each row by the column ``name``.

        Raises ``ValueError`` naming the first cell that is none of ``class_names``.
        """
        index = {level: position for position, level in enumerate(class_names)}
        for row, cell in enumerate(self.columns[name]):
            if cell not in index:
                raise ValueError(
                    f"{self.place(row, name)}: the training split has no class {cell!r}"
                )
        return [index[cell] for cell in self.columns[name]]

    def without(self, rows: set[int]) -> Cells:
        """All rows but these."""
        kept = [row for row in range(len(self.lines)) if row not in rows]
        columns = {name: [cells[row] for row in kept] for name, cells in self.columns.items()}
        return Cells(self.name, columns, [self.lines[row] for row in kept])
