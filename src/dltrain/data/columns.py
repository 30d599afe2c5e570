"""Anyone's own table: named columns of text cells, made into feature vectors and a target."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, Literal

import torch
from torch import Tensor

from dltrain.data.tables import TableSource, split
from dltrain.nearest import did_you_mean
from dltrain.types import Batch

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
"""What a cell that says nothing may hold, in small letters."""


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
            raise ValueError(
                f"{self.name} has no column {name!r}. {did_you_mean(name, self.columns)} "
                f"It has {', '.join(self.columns)}.".replace("  ", " ")
            )

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


class ColumnsTable(TableSource):
    """Feature columns and a ``target`` column, by name, of a table of text cells.

    ``features`` null takes every other column. A column of numbers is one feature; one of texts,
    or one listed in ``categorical``, becomes a feature of 0 or 1 for each of its levels in the
    training split (a level that only the test split has is 0 in all of them), and may have
    ``max_levels`` of them. ``kind`` null makes a target of numbers a regression and one of texts
    a classification. ``missing`` cells (empty, ?, NA, N/A, NaN, null, none) are refused, or their
    rows dropped, or filled with the training rows' mean (for a category, the levels' shares).
    ``test`` is the share of the rows to set aside, the same rows whatever the run's seed.

    Raises ``ValueError`` naming file, line and column of what cannot be used.
    """

    def __init__(
        self,
        target: str,
        features: Sequence[str] | None = None,
        kind: Literal["classification", "regression"] | None = None,
        categorical: Sequence[str] = (),
        max_levels: int = 100,
        missing: Literal["refuse", "drop", "mean"] = "refuse",
        **common: Any,
    ) -> None:
        super().__init__(**common)
        self.target, self.missing, self.max_levels = target, missing, max_levels
        self.categorical = set(categorical)
        self.notes: list[str] = []
        train, test = self.cells()
        names = [*(features or [n for n in train.columns if n != target]), target]
        if features and target in features:
            raise ValueError(f"the target {target!r} is among the features")
        if len(names) < 2:
            raise ValueError(f"{train.name} has no column beside the target {target!r}")
        for cells in [train] if isinstance(test, float) else [train, test]:
            for name in (*names, *categorical):
                cells.require(name)
        self._features = names[:-1]
        train = self._handle_missing(train, names)
        if not isinstance(test, float):
            test = self._handle_missing(test, names)
        self._set_classes(train, kind)
        rows = {"row": torch.arange(len(train.lines)), "target": self._targets(train)}
        own, held_out = (rows, None) if not isinstance(test, float) else split(rows, test)
        self._levels = self._find_levels(train, own["row"].tolist())
        inputs = self._inputs(train)

        def taken(part: Batch) -> Batch:
            return {"input": inputs[part["row"]], "target": part["target"]}

        if isinstance(test, float):
            assert held_out is not None
            self._columns = taken(own), taken(held_out)
        else:
            second = {"input": self._inputs(test), "target": self._targets(test)}
            self._columns = taken(own), second
        self._check_splits(train.name)

    @property
    def facts(self) -> dict[str, Any]:
        """As of any table; of numbers to predict also their mean and deviation in training."""
        facts = super().facts
        if self.class_names:
            return facts
        targets = self._columns[0]["target"].double()
        return facts | {"target_mean": float(targets.mean()), "target_std": float(targets.std())}

    @abstractmethod
    def cells(self) -> tuple[Cells, Cells | float]:
        """The training split's cells; and the test split's, or the share to take from the first."""

    def read(self) -> tuple[Batch, Batch]:
        """What the constructor read; and, on standard error, what it decided by itself."""
        for note in self.notes:
            print(f"data: {note}", file=sys.stderr)
        return self._columns

    def _handle_missing(self, cells: Cells, names: Sequence[str]) -> Cells:
        """Refuse or drop rows with missing cells, or leave them to be filled; count them."""
        absent = {
            name: [row for row, cell in enumerate(cells.columns[name]) if is_missing(cell)]
            for name in names
        }
        rows = {row for found in absent.values() for row in found}
        if not rows:
            return cells
        first = min((found[0], name) for name, found in absent.items() if found)
        if self.missing == "refuse":
            raise ValueError(
                f"{cells.place(*first)} is empty, and {len(rows)} rows have such cells. "
                "Set data.missing=drop or data.missing=mean."
            )
        if self.missing == "drop":
            self.notes.append(f"{cells.name}: {len(rows)} rows with missing values dropped.")
            if len(rows) == len(cells.lines):
                raise ValueError(f"{cells.name}: every row has a missing value, none is left")
            return cells.without(rows)
        if absent[self.target]:
            raise ValueError(
                f"{cells.place(absent[self.target][0], self.target)} is empty, and a target "
                "cannot be filled with a mean. Set data.missing=drop."
            )
        counts = ", ".join(f"{len(found)} in {name!r}" for name, found in absent.items() if found)
        self.notes.append(f"{cells.name}: missing values filled with the mean: {counts}.")
        return cells

    def _set_classes(self, cells: Cells, kind: str | None) -> None:
        column = cells.columns[self.target]
        values = [number(cell) for cell in column]
        if kind is None and self._is_numeric(cells, self.target):
            kind = "regression"
            self.notes.append(
                f"the target {self.target!r} holds numbers: regression "
                "(data.kind=classification makes each value a class)."
            )
        elif kind is None:
            kind = "classification"
            self.notes.append(f"the target {self.target!r} holds texts: classification.")
        if len(set(column)) < 2:
            raise ValueError(
                f"{cells.name}: the target {self.target!r} has one value, {column[0]!r}: there is "
                "nothing to learn"
            )
        if kind == "classification":
            self.class_names = sorted_levels(column)
        elif None in values:
            row = values.index(None)
            raise ValueError(
                f"{cells.place(row, self.target)}: {column[row]!r} is not a number, which a "
                "regression needs"
            )

    def _targets(self, cells: Cells) -> Tensor:
        column = cells.columns[self.target]
        if not self.class_names:
            return torch.tensor([self._finite(cells, r, self.target) for r in range(len(column))])[
                :, None
            ]
        return torch.tensor(cells.classes(self.target, self.class_names))

    def _is_numeric(self, cells: Cells, name: str) -> bool:
        """Whether a column holds numbers; raises ValueError if it holds both kinds."""
        if name in self.categorical:
            return False
        column = cells.columns[name]
        found = [is_missing(cell) or number(cell) is not None for cell in column]
        present = sum(not is_missing(cell) for cell in column)
        texts = found.count(False)
        if not texts or not present:
            return True
        if texts == present:
            return False
        row = found.index(False)
        raise ValueError(
            f"{cells.place(row, name)}: {column[row]!r} is not a number, but {present - texts} of "
            f"{present} cells of that column are. Mend it, or add {name!r} to data.categorical."
        )

    def _find_levels(self, cells: Cells, rows: Sequence[int]) -> dict[str, list[str]]:
        """Each feature column's levels over the training ``rows``; none for numbers.

        Also names the features that come of them.
        """
        levels: dict[str, list[str]] = {}
        names: list[str] = []
        unscaled: list[int] = []
        for column in self._features:
            if self._is_numeric(cells, column):
                names.append(column)
                continue
            found = (cells.columns[column][row] for row in rows)
            levels[column] = sorted_levels([cell for cell in found if not is_missing(cell)])
            if len(levels[column]) > self.max_levels:
                raise ValueError(
                    f"{cells.name}: column {column!r} has {len(levels[column])} different texts, "
                    f"such as {levels[column][0]!r}. Leave it out of data.features, or raise "
                    "data.max_levels."
                )
            unscaled += range(len(names), len(names) + len(levels[column]))
            names += [f"{column}={level}" for level in levels[column]]
        self.feature_names, self.unscaled = names, unscaled
        return levels

    def _inputs(self, cells: Cells) -> Tensor:
        """Feature vectors (rows, features), float64, NaN where a cell is missing."""
        blocks = [
            self._one_hot(cells, column)
            if column in self._levels
            else torch.tensor(
                [self._finite(cells, row, column) for row in range(len(cells.lines))],
                dtype=torch.float64,
            )[:, None]
            for column in self._features
        ]
        return torch.cat(blocks, 1)

    def _one_hot(self, cells: Cells, name: str) -> Tensor:
        levels = {level: position for position, level in enumerate(self._levels[name])}
        column = cells.columns[name]
        block = torch.zeros(len(column), len(levels) + 1, dtype=torch.float64)
        codes = torch.tensor([levels.get(cell, len(levels)) for cell in column])
        block.scatter_(1, codes[:, None], 1.0)
        absent = torch.tensor([is_missing(cell) for cell in column])
        unknown = int(((codes == len(levels)) & ~absent).sum())
        if unknown:
            self.notes.append(
                f"{cells.name}: {unknown} cells of {name!r} hold a level that no training row "
                "has; it counts as none of them."
            )
        block[absent] = nan
        return block[:, :-1]

    def _finite(self, cells: Cells, row: int, name: str) -> float:
        cell = cells.columns[name][row]
        value = nan if is_missing(cell) else number(cell)
        if value is None or not (isfinite(value) or is_missing(cell)):
            raise ValueError(f"{cells.place(row, name)}: {cell!r} is not a (finite) number")
        return value

    def _check_splits(self, name: str) -> None:
        train, test = self._columns
        if not len(test["target"]):
            raise ValueError(
                f"{name}: no row is left for the test split; raise data.test, a share, or give a "
                "second file as data.test"
            )
        self.notes.append(
            f"{name}: {len(train['target']):,} training and {len(test['target']):,} test rows, "
            f"{len(self.feature_names)} features"
            + (f", {len(self.class_names)} classes." if self.class_names else ".")
        )


def is_missing(cell: str) -> bool:
    """Whether a cell says that there is no value."""
    return cell.lower() in MISSING


def number(cell: str) -> float | None:
    """The number a cell holds, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    # Python reads 1_000 as a number; tables do not.
    return None if "_" in cell else value


def sorted_levels(cells: Sequence[str]) -> list[str]:
    """Different cells in order: by value if all are numbers, else as text."""
    levels = sorted(set(cells))
    values = {level: number(level) for level in levels}
    if None in values.values():
        return levels
    return sorted(levels, key=lambda level: values[level] or 0.0)
