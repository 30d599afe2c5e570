"""What the columns of a table in shards are, decided without holding any of them as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.data.shards.lanes import Encoded, Place
from dltrain.data.shards.parquet import ParquetShards
from dltrain.data.tables.deciding import FEW, Deciding
from dltrain.data.tables.features import Encoding
from dltrain.data.tables.parse import Numbers, Texts
from dltrain.data.tables.raw import RawTable, usable
from dltrain.data.tables.targets import targets_of
from dltrain.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """What a user says of the columns: see :class:`~dltrain.data.shards.tables.TableShards`."""

    target: str
    features: Sequence[str] | None
    exclude: Sequence[str]
    kind: Literal["classification", "regression"] | None
    categorical: Sequence[str]
    embed: Sequence[str]
    missing: Literal["refuse", "mean"]
    target_transform: Literal["log", "log1p"] | None

    def __post_init__(self) -> None:
        """Raise :class:`ValueError` for what contradicts itself."""
        for name in self.embed:
            if name == self.target or name in self.exclude:
                said = "the target" if name == self.target else "excluded, too"
                raise ValueError(f"embed: {name!r} is {said}")
        if self.features is not None and self.target in self.features:
            raise ValueError(f"the target {self.target!r} is among the features")


class TableColumns:
    """The features and the target of rows, by what ``deciding`` makes of the columns' values."""

    def __init__(self, wanted: Wanted, deciding: Deciding) -> None:
        self.wanted, self.deciding = wanted, deciding
        self.features: list[str] = []
        self.left_out: dict[str, str] = {}
        self.encoding: Encoding | None = None

    @property
    def needed(self) -> list[str]:
        """The columns that are read."""
        return [*self.features, self.wanted.target]

    @property
    def class_names(self) -> Sequence[str]:
        """Of the target; empty where it is a number."""
        return self.deciding.class_names

    def choose(self, shards: ParquetShards) -> None:
        """The feature columns, and why others are none.

        Raises :class:`UserError` for one that is named and cannot be one.
        """
        wanted, empty = self.wanted, shards.schema.empty_table()
        kept, left_out = usable(empty.column_names, empty.columns)
        for name, column in list(kept.items()):
            if pa.types.is_timestamp(column.type) or pa.types.is_null(column.type):
                left_out = {**left_out, name: f"it holds {column.type}"}
                del kept[name]
        names = kept if wanted.features is None else wanted.features
        self.features = [n for n in names if n not in {wanted.target, *wanted.exclude}]
        for name in (*self.features, *wanted.categorical, *wanted.embed):
            shards.require("features", name)
        shards.require("target", wanted.target)
        for name in wanted.exclude:
            shards.require("exclude", name)
        for name in self.needed:
            if name in left_out:
                raise UserError(f"data: column {name!r} cannot be used: {left_out[name]}.")
        if not self.features:
            gone = "".join(f"; {n!r}: {why}" for n, why in left_out.items())
            raise UserError(
                f"data.path: there is no column beside the target {wanted.target!r}{gone}."
            )
        unasked = {n: why for n, why in left_out.items() if n not in wanted.exclude}
        self.left_out = {**unasked, **dict.fromkeys(wanted.exclude, "data.exclude")}

    def of_levels(self, schema: pa.Schema) -> list[str]:
        """The columns of which it matters which values they have: all but those of numbers."""
        kinds, wanted = pa.types, self.wanted
        texts = (kinds.is_string, kinds.is_large_string, kinds.is_string_view, kinds.is_boolean)
        tests = (*texts, kinds.is_date, kinds.is_dictionary)
        named = {*wanted.categorical, *wanted.embed}
        named |= {wanted.target} if wanted.kind == "classification" else set()
        return [
            name
            for name in self.needed
            if name in named or any(test(schema.field(name).type) for test in tests)
        ]

    def decide(self, name: str, values: Mapping[str, Sequence[str]], some: pa.RecordBatch) -> None:
        """What each column is, by all ``values`` of those that have levels, and ``some`` rows.

        ``name`` is what the files are called. Raises ``ValueError``.
        """
        columns = {own: pa.chunked_array([some.column(own)]) for own in some.schema.names}
        columns |= {own: pa.chunked_array([pa.array(v, pa.string())]) for own, v in values.items()}
        table = RawTable(name, 0, columns, lambda row: f"value {row + 1} of those there are")
        features = {own: self.deciding.feature(table, own) for own in self.features}
        target = self.deciding.target_column(table)
        if isinstance(target, Texts):
            # How often there is one, only a pass tells: often enough to be a class.
            codes = np.arange(len(target.levels), dtype=np.int32).repeat(FEW)
            self.deciding.check_target(table, Texts(codes, target.levels))
        if self.class_names and self.wanted.target_transform:
            raise ValueError(
                f"target_transform is of numbers, and the target {self.wanted.target!r} holds "
                "classes"
            )
        everything: Any = slice(None)
        levels = self.deciding.levels(table, features, everything)
        self.encoding = self.deciding.encoding(self.features, levels)

    def read(self, rows: pa.RecordBatch, place: Place) -> tuple[Tensor, Encoded]:
        """Feature vectors of some rows, float64 and NaN where one is missing; the other columns.

        Raises :class:`UserError` for a cell that is missing, or is not what training has there.
        """
        encoding = self.encoding
        assert encoding is not None, "decide() comes first"
        blocks: list[NDArray[np.float64]] = [np.empty((len(rows), 0))]
        others: Encoded = {}
        table = self._raw(rows, place)
        try:
            for name in self.features:
                where = _in_column(place, name)
                column = encoding.read(name, table.columns[name], where)
                self._require_cells(name, column, place)
                if name in encoding.indices:
                    others[encoding.indices[name]] = encoding.index(name, column)
                else:
                    blocks.append(encoding.block(name, column, where).rows(slice(None)))
            others["target"] = self._targets(table, place).numpy()
        except ValueError as error:
            raise UserError(f"data.path: {error}.") from error
        return torch.from_numpy(np.concatenate(blocks, 1)), others

    def targets(self, rows: pa.RecordBatch) -> Tensor:
        """Those of some rows: classes, or float32 (rows, 1)."""
        place: Place = lambda row: f"row {row + 1}"  # noqa: E731
        return self._targets(self._raw(rows, place), place)

    def _targets(self, table: RawTable, place: Place) -> Tensor:
        name = self.wanted.target
        column = self.deciding.second_target(table)
        self._require_cells(name, column, place)
        found = targets_of(table, name, column, self.class_names, self.wanted.target_transform)
        return found if self.class_names else found.float()

    def _raw(self, rows: pa.RecordBatch, place: Place) -> RawTable:
        names = rows.schema.names
        columns = {n: pa.chunked_array([c]) for n, c in zip(names, rows.columns, strict=True)}
        return RawTable("data", len(rows), columns, place)

    def _require_cells(self, name: str, column: Numbers | Texts, place: Place) -> None:
        target = name == self.wanted.target
        if not column.missing.any() or (self.wanted.missing == "mean" and not target):
            return
        row = int(column.missing.argmax())
        hint = "a target cannot be filled" if target else "data.missing=mean fills such cells"
        raise ValueError(f"{place(row)}, column {name!r} has no value; {hint}")


def _in_column(place: Place, name: str) -> Place:
    return lambda row: f"{place(row)}, column {name!r}"
