"""Columns of a table as feature vectors: what each column means, learned once and kept."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.tables.dates import date_features, parse_dates, parts_of
from dltrain.data.tables.parse import Numbers, Place, Texts, parse, parse_affixed
from dltrain.data.tables.values import BOOLEANS, CellFormat, are_booleans, clean, meaning

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Block:
    """The features of one column, kept small: a row's are those of ``table`` at its ``index``.

    Without ``table`` (entries, features) there is one feature, and ``index`` has the numbers
    themselves. float64, NaN where a cell is missing.
    """

    index: NDArray[Any]
    table: NDArray[np.float64] | None = None

    @property
    def features(self) -> int:
        """How many there are."""
        return 1 if self.table is None else self.table.shape[1]

    def rows(self, rows: NDArray[Any] | slice) -> NDArray[np.float64]:
        """The features (rows, features) of some rows."""
        found = self.index[rows]
        return found[:, None] if self.table is None else self.table[found]


@dataclass(frozen=True)
class Encoding:
    """Which features ``columns`` become.

    A column of ``levels`` becomes a feature of 0 or 1 for each of them, one of ``booleans`` 0 or 1,
    one of ``dates`` (a format each) the parts of :func:`~dltrain.data.tables.dates.parts_of`, any
    other a number, with the unit in ``affixes`` where it has one. One of ``embedded`` (its levels
    each) becomes no feature but an index: 0 for none of them, else its level's place from 1.
    """

    columns: Sequence[str]
    format: CellFormat = field(default_factory=CellFormat)
    levels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    booleans: Sequence[str] = ()
    dates: Mapping[str, str] = field(default_factory=dict)
    affixes: Mapping[str, str] = field(default_factory=dict)
    merge: bool = True
    """Whether levels that have one :func:`~dltrain.data.tables.values.meaning` are one."""
    case: bool = False
    """Whether those that differ only in case are."""
    embedded: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def feature_names(self) -> list[str]:
        """The features in order."""
        return [name for column in self.columns for name in self._names(column)]

    @property
    def unscaled(self) -> list[int]:
        """Features that are no measure: the 0 and 1 of levels and of booleans."""
        found: list[int] = []
        position = 0
        for column in self.columns:
            count = len(self._names(column))
            if column in self.levels or column in self.booleans:
                found += range(position, position + count)
            position += count
        return found

    @property
    def indices(self) -> dict[str, str]:
        """The input that has the indices of each column of ``embedded``."""
        return {name: f"input.{name}" for name in self.columns if name in self.embedded}

    def read(self, name: str, cells: pa.ChunkedArray, place: Place) -> Numbers | Texts:
        """The cells of a column of rows that were not there when its kind was decided."""
        kinds = (self.levels, self.embedded, self.booleans, self.dates, self.affixes)
        as_text = any(name in kind for kind in kinds)
        return parse(cells, self.format, place, as_text)

    def block(self, name: str, column: Numbers | Texts, place: Place) -> Block:
        """The features of a column. Raises ``ValueError`` for a cell that cannot be one."""
        if name in self.affixes and isinstance(column, Texts):
            column = parse_affixed(column, self.affixes[name], self.format, place)
        if isinstance(column, Numbers) and name not in self.levels:
            return Block(column.values)
        assert isinstance(column, Texts)
        if name in self.levels:
            table = self._one_hot(name, column)
        elif name in self.booleans:
            values = [BOOLEANS.get(clean(level).casefold()) for level in column.levels]
            self._require(column, [v is not None for v in values], "true or false", place)
            table = np.array([[float(value or 0)] for value in values]).reshape(-1, 1)
        elif name in self.dates:
            dates = parse_dates([clean(level) for level in column.levels], self.dates[name])
            self._require(column, ~np.isnat(dates), f"a date {self.dates[name]}", place)
            table = date_features(dates, self.dates[name])
        else:
            self._require(column, [False] * len(column.levels), "a (finite) number", place)
            table = np.empty((0, 1))
        absent = np.full((1, table.shape[1]), np.nan)
        return Block(column.codes, np.concatenate([table, absent]))

    def index(self, name: str, column: Numbers | Texts) -> NDArray[np.int32]:
        """The indices (rows,) of a column of ``embedded``."""
        assert isinstance(column, Texts)
        place = {level: position for position, level in enumerate(self.embedded[name], 1)}
        known = self.spelled(name, column)
        table = [place[known[own]] if own in known else 0 for own in column.levels]
        return np.array([*table, 0], np.int32)[column.codes]

    def spelled(self, name: str, column: Texts) -> dict[str, str]:
        """The level of training for each of the column's own that means the same."""
        levels = self.levels[name] if name in self.levels else self.embedded[name]
        means = self._meaning_in(levels)
        alike = {means(level): level for level in levels}
        alike |= {level: level for level in levels}
        found = {own: alike.get(own, alike.get(means(own))) for own in column.levels}
        return {own: level for own, level in found.items() if level is not None}

    def unknown(self, name: str, column: Numbers | Texts) -> int:
        """How many cells have a level that no training row has: they count as none of them."""
        if name not in (*self.levels, *self.embedded) or not isinstance(column, Texts):
            return 0
        known = self.spelled(name, column)
        counts = column.counts()
        return sum(count for level, count in counts.items() if level not in known)

    def node(self) -> dict[str, Any]:
        """What a reader keeps of it, for JSON."""
        found = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        format = found.pop("format")
        found |= {"decimal": format.decimal, "thousands": format.thousands}
        found["missing_values"] = list(format.missing)
        for kind in ("levels", "embedded"):
            found[kind] = {name: list(levels) for name, levels in found[kind].items()}
        return found | {"columns": list(self.columns), "booleans": list(self.booleans)}

    def _names(self, column: str) -> list[str]:
        if column in self.embedded:
            return []
        if column in self.levels:
            return [f"{column}={level}" for level in self.levels[column]]
        if column in self.dates:
            return [f"{column}.{part}" for part in parts_of(self.dates[column])]
        return [column]

    def _one_hot(self, name: str, column: Texts) -> NDArray[np.float64]:
        """For each of the column's own levels its features; all 0 where it is none."""
        position = {level: place for place, level in enumerate(self.levels[name])}
        known = self.spelled(name, column)
        table = np.zeros((len(column.levels), len(position)))
        for row, own in enumerate(column.levels):
            if own in known:
                table[row, position[known[own]]] = 1.0
        return table

    def _meaning_in(self, levels: Sequence[str]) -> Callable[[str], Hashable]:
        """What tells levels of a column apart."""
        booleans = are_booleans(levels)

        def means(level: str) -> Hashable:
            if not self.merge:
                return level
            if booleans and clean(level).casefold() in BOOLEANS:
                return ("truth", BOOLEANS[clean(level).casefold()])
            same = meaning(level, self.format)
            return same.casefold() if self.case and isinstance(same, str) else same

        return means

    @staticmethod
    def _require(
        column: Texts, good: Sequence[bool] | NDArray[Any], what: str, place: Place
    ) -> None:
        bad = {level for level, is_good in zip(column.levels, good, strict=True) if not is_good}
        if bad:
            row = column.first(bad)
            level = column.levels[column.codes[row]]
            raise ValueError(f"{place(row)}: {level!r} is not {what}")


def stacked(blocks: Sequence[Block], rows: int) -> Tensor:
    """The feature vectors (rows, features) of all rows, float64."""
    parts = [np.empty((rows, 0)), *(block.rows(slice(None)) for block in blocks)]
    return torch.from_numpy(np.concatenate(parts, 1))
