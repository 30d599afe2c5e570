"""Anyone's own table: named columns of text cells, made into feature vectors and a target."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import DataSpec, Field, Reader
from dltrain.data.streams.division import Division
from dltrain.data.streams.splits import InMemory, Split
from dltrain.data.tables.dividing import RowSplits
from dltrain.data.tables.encoding import finite, is_missing, number, numbers, one_hot
from dltrain.data.tables.reader import TableReader
from dltrain.data.tables.source import TableSource, target_field

logger = logging.getLogger(__name__)


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
    rows dropped, or filled with the training rows' mean (for a category, the levels' frequencies).
    ``test`` is the fraction of the rows to set aside, the same rows whatever the run's seed.
    ``group``, ``order`` or ``split_column`` is a column by which the rows are split
    (:class:`~dltrain.data.tables.dividing.RowSplits`); it is no feature unless ``features`` has it.

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
        group: str | None = None,
        order: str | None = None,
        split_column: str | None = None,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if features is not None and target in features:
            raise ValueError(f"the target {target!r} is among the features")
        self.target, self.features, self.kind = target, features, kind
        self.missing, self.max_levels = missing, max_levels
        self.categorical = set(categorical)
        self.row_splits = RowSplits(group, order, split_column)
        if self.row_splits.column == target:
            raise ValueError(f"the target {target!r} cannot split the rows")
        self.feature_names = ()

    def outline(self) -> DataSpec:
        """Before the table is read: numbers in, and only what ``kind`` says of the target."""
        if self.feature_names:
            return super().outline()
        fields = {"input": Field((None,), "number", "input")}
        if self.kind == "regression":
            fields["target"] = target_field(())
        elif self.kind == "classification":
            fields["target"] = Field((), "class", "target")
        return DataSpec(fields, complete=False)

    def splits(self) -> dict[str, Split]:
        """Read the table, and decide what is a number, a category, a class."""
        train, test = self.cells()
        by = self.row_splits.column
        features = self.features or [n for n in train.columns if n not in (self.target, by)]
        names = [*features, self.target]
        if len(names) < 2:
            raise ValueError(f"{train.name} has no column beside the target {self.target!r}")
        for cells in [train] if isinstance(test, float) else [train, test]:
            for name in (*names, *sorted(self.categorical)):
                cells.require(name)
        self._columns = names[:-1]
        if by is not None:
            train.require(by)
        train = self._handle_missing(train, list(dict.fromkeys([*names, *([by] if by else [])])))
        if not isinstance(test, float):
            test = self._handle_missing(test, names)
        self._set_classes(train)
        targets = self._targets(train)
        fraction = test if isinstance(test, float) else None
        parts = self.row_splits.parts(train.columns[by or self.target], targets, fraction)
        own = parts["train"]
        self._set_levels(train, range(len(train.lines)) if own is None else own.tolist())
        whole = InMemory({"input": self._inputs(train), "target": targets})
        found = {n: whole if rows is None else whole.only(rows) for n, rows in parts.items()}
        if not isinstance(test, float):
            self._tell_shared_groups(train, test)
            found["test"] = InMemory({"input": self._inputs(test), "target": self._targets(test)})
        self._check_splits(train.name, found)
        return dict(found)

    def spec(self, splits: Mapping[str, Split]) -> DataSpec:
        """Of numbers to predict also their mean and standard deviation in training."""
        fields = dict(super().spec(splits).fields)
        if not self.class_names:
            trained = splits["train"].columns["target"].double()
            spread = float(trained.std())
            # Of one value, or of a row alone, there is none.
            mean, std = float(trained.mean()), spread if spread > 0 else 1.0
            fields["target"] = replace(fields["target"], mean=(mean,), std=(std,))
        return DataSpec(fields)

    def _tell_shared_groups(self, train: Cells, test: Cells) -> None:
        """Warn of groups that a test split of its own shares with the training split."""
        column = self.row_splits.group
        if column is None:
            return
        test.require(column)
        shared = set(train.columns[column]) & set(test.columns[column])
        if shared:
            logger.warning(
                "%d groups of %r are in %s and in %s, such as %r.",
                *(len(shared), column, train.name, test.name, min(shared)),
            )

    def reader(self) -> Reader:
        """Rows by the table's columns; missing cells are filled where ``missing`` says so."""
        scaling = self.scaling
        fill = scaling.fill if self.missing == "mean" else ()
        return TableReader(self._columns, self._levels, fill, scaling.mean, scaling.std)

    def division(self, train: Split) -> Division:
        """By the column that splits the rows, where there is one."""
        return self.row_splits.division() or super().division(train)

    @abstractmethod
    def cells(self) -> tuple[Cells, Cells | float]:
        """The training split's cells; and the test split's, or what fraction of the first."""

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
            logger.warning("%s: %d rows with missing values dropped.", cells.name, len(rows))
            if len(rows) == len(cells.lines):
                raise ValueError(f"{cells.name}: every row has a missing value, none is left")
            return cells.without(rows)
        if absent[self.target]:
            raise ValueError(
                f"{cells.place(absent[self.target][0], self.target)} is empty, and a target "
                "cannot be filled with a mean. Set data.missing=drop."
            )
        counts = ", ".join(f"{len(found)} in {name!r}" for name, found in absent.items() if found)
        logger.warning("%s: missing values filled with the mean: %s.", cells.name, counts)
        return cells

    def _set_classes(self, cells: Cells) -> None:
        kind: str | None = self.kind
        column = cells.columns[self.target]
        values = [number(cell) for cell in column]
        if kind is None and self._is_numeric(cells, self.target):
            kind = "regression"
            logger.info(
                "the target %r holds numbers: regression "
                "(data.kind=classification makes each value a class).",
                self.target,
            )
        elif kind is None:
            kind = "classification"
            logger.info("the target %r holds texts: classification.", self.target)
        if len(set(column)) < 2:
            raise ValueError(
                f"{cells.name}: the target {self.target!r} has one value, {column[0]!r}: there is "
                "nothing to learn"
            )
        self.class_names = sorted_levels(column) if kind == "classification" else ()
        if not self.class_names and None in values:
            row = values.index(None)
            raise ValueError(
                f"{cells.place(row, self.target)}: {column[row]!r} is not a number, which a "
                "regression needs"
            )

    def _targets(self, cells: Cells) -> Tensor:
        column = cells.columns[self.target]
        if not self.class_names:
            places = (partial(cells.place, row, self.target) for row in range(len(column)))
            values = [finite(cell, place) for cell, place in zip(column, places, strict=True)]
            return torch.tensor(values)[:, None]
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

    def _set_levels(self, cells: Cells, rows: Sequence[int]) -> None:
        """Find each feature column's levels over the training ``rows``, none for numbers.

        Also name the features that come of them.
        """
        levels: dict[str, list[str]] = {}
        names: list[str] = []
        unscaled: list[int] = []
        for column in self._columns:
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
        self.feature_names, self.unscaled, self._levels = names, unscaled, levels

    def _inputs(self, cells: Cells) -> Tensor:
        """Feature vectors (rows, features), float64, NaN where a cell is missing."""
        return torch.cat([self._block(cells, column) for column in self._columns], 1)

    def _block(self, cells: Cells, name: str) -> Tensor:
        """The features of one column."""
        if name not in self._levels:
            return numbers(cells.columns[name], lambda row: cells.place(row, name))
        block = one_hot(cells.columns[name], self._levels[name])
        unknown = int((block.sum(1) == 0).sum())
        if unknown:
            logger.warning(
                "%s: %d cells of %r hold a level that no training row has; it counts as none of "
                "them.",
                *(cells.name, unknown, name),
            )
        return block

    def _check_splits(self, name: str, splits: Mapping[str, Split]) -> None:
        if not len(splits["test"]):
            raise ValueError(
                f"{name}: no row is left for the test split; raise data.test, a fraction, or give "
                "a second file as data.test"
            )
        logger.info(
            "%s: %s training and %s test rows, %d features%s.",
            name,
            *(f"{len(splits[split]):,}" for split in ("train", "test")),
            len(self.feature_names),
            f", {len(self.class_names)} classes" if self.class_names else "",
        )


def sorted_levels(cells: Sequence[str]) -> list[str]:
    """Different cells in order: by value if all are numbers, else as text."""
    levels = sorted(set(cells))
    values = {level: number(level) for level in levels}
    if None in values.values():
        return levels
    return sorted(levels, key=lambda level: values[level] or 0.0)
