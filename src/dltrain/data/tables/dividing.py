"""Splits by a column of a table: groups of rows, their order in time, or given splits.

Texts and images whose labels are in a table are split so, too.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dltrain.data.streams.division import TEST_SEED, Division, Grouped, Ordered, hold_out_test
from dltrain.data.tables.deciding import Deciding
from dltrain.data.tables.parse import Numbers, Texts
from dltrain.data.tables.raw import RawTable
from dltrain.data.tables.values import CellFormat

logger = logging.getLogger(__name__)

SHOWN = 5
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}
"""What a cell of the column of splits may say, in small letters."""


class RowSplits:
    """Decides which rows are in which split, by at most one column, whose cells are given.

    Rows of one ``group`` are never in two splits. By ``order`` the last rows are the test split,
    and those before them the validation split: numbers or dates. ``split_column`` says it of each
    row. None of them: drawn, each class its fraction.

    Raises ``ValueError`` where more than one is given.
    """

    def __init__(self, group: str | None, order: str | None, split_column: str | None) -> None:
        given = {"group": group, "order": order, "split_column": split_column}
        named = [name for name, column in given.items() if column is not None]
        if len(named) > 1:
            raise ValueError(f"{' and '.join(named)} are given: rows are split by one of them")
        self.group, self.column = group, group or order or split_column
        self._by = named[0] if named else ""
        self._groups: Tensor | None = None

    @property
    def key(self) -> list[str]:
        """What decides how rows are divided, for JSON; empty where no column does."""
        return [self._by, self.column] if self.column is not None else []

    @property
    def given(self) -> bool:
        """Whether the column says the split of each row."""
        return self._by == "split_column"

    @property
    def groups(self) -> Tensor | None:
        """The group (rows,) of each training row that :meth:`parts` gave, where there are any."""
        return self._groups

    @property
    def ordered(self) -> bool:
        """Whether the column's numbers or dates are what counts, else its texts."""
        return self._by == "order"

    def of_cells(
        self, name: str, cells: Sequence[str], line: Callable[[int], int]
    ) -> Numbers | Texts:
        """The column that :meth:`parts` takes, of its cells as texts, in the table ``name``.

        ``line`` tells that of a row.
        """
        import pyarrow as pa

        assert self.column is not None
        found = pa.chunked_array([pa.array(cells, pa.string())])
        table = RawTable(name, len(cells), {self.column: found}, lambda row: f"line {line(row)}")
        plain = Deciding("", None, set(), 0, CellFormat(), None, True, "keep", set())
        return plain.dividing_column(table, self.column, self.ordered)

    def parts(
        self,
        column: Numbers | Texts | None,
        targets: Tensor,
        test: float | None,
        class_names: Sequence[str] = (),
    ) -> dict[str, Tensor | None]:
        """The rows of each split (None: all); ``test`` is the fraction to set aside, None: none.

        A class of ``targets`` (rows,) that no training row is left of is told. Raises
        ``ValueError`` for a ``column`` that does not say it.
        """
        found = self._parts(column, targets, test)
        train = found["train"]
        if class_names and train is not None:
            lost = set(targets.tolist()) - set(targets[train].tolist())
            if lost:
                shown = ", ".join(repr(class_names[one]) for one in sorted(lost)[:SHOWN])
                logger.warning("column %r leaves no training row of %s.", self.column, shown)
        return found

    def _parts(
        self, column: Numbers | Texts | None, targets: Tensor, test: float | None
    ) -> dict[str, Tensor | None]:
        found: dict[str, Tensor | None]
        if column is None:
            if test is None:
                return {"train": None}
            train, aside = hold_out_test(targets, test)
            return {"train": train, "test": aside}
        count = len(targets)
        number_of_rows = 0 if test is None else max(1, round(test * count))
        if isinstance(column, Numbers):
            rows = torch.from_numpy(column.values.argsort(kind="stable"))
            found = {"train": rows[: count - number_of_rows]}
            if test is not None:
                found["test"] = rows[count - number_of_rows :]
            return found
        if self.given:
            return self._given([column.levels[code] for code in column.codes], test)
        groups = torch.from_numpy(column.codes).long()
        division = Grouped(groups)
        aside = division.aside(division.order(count, TEST_SEED), number_of_rows).sort().values
        train = torch.ones(count, dtype=torch.bool)
        train[aside] = False
        self._groups = groups[train]
        found = {"train": train.nonzero()[:, 0]}
        return found if test is None else {**found, "test": aside}

    def shared(
        self, own: Numbers | Texts, name: str, other: Numbers | Texts, other_name: str
    ) -> str:
        """What to warn of where two tables share groups; else nothing."""
        assert isinstance(own, Texts)
        assert isinstance(other, Texts)
        found = set(own.levels) & set(other.levels)
        return (
            f"{len(found):,} groups of {self.group!r} are in {name} and in {other_name}, such as "
            f"{min(found)!r}."
            if found
            else ""
        )

    def division(self, groups: Tensor | None = None) -> Division | None:
        """How the training rows that :meth:`parts` gave are divided; None: as others are.

        ``groups`` are theirs, where it was another that gave them.
        """
        groups = self._groups if groups is None else groups
        if groups is not None:
            return Grouped(groups)
        return Ordered() if self._by == "order" else None

    def _given(self, cells: Sequence[str], test: float | None) -> dict[str, Tensor | None]:
        rows: dict[str, list[int]] = {}
        for row, cell in enumerate(cells):
            split = SPLITS.get(cell.lower())
            if split is None:
                raise ValueError(
                    f"column {self.column!r} says {cell!r}, which is no split: train, validation, "
                    "test"
                )
            rows.setdefault(split, []).append(row)
        wanted = {"train"} if test is None else {"train", "test"}
        if missing := sorted(wanted - rows.keys()):
            raise ValueError(f"column {self.column!r} names no row of the split {missing[0]!r}")
        if test is None and "test" in rows:
            raise ValueError(
                f"column {self.column!r} names test rows, and data.test is a file of them"
            )
        order = [name for name in ("train", "validation", "test") if name in rows]
        return {name: torch.tensor(rows[name]) for name in order}
