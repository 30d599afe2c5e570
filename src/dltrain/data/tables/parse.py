"""From the cells of a column to numbers, or to texts that are told apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dltrain.data.tables.values import CellFormat, clean, strip_affix

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 64
"""Cells that are looked at first."""

Place = Callable[[int], str]
"""Where the cell of a row stands, for a message."""


@dataclass(frozen=True)
class Numbers:
    """A column of numbers, (rows,) float64; NaN where there is none."""

    values: NDArray[np.float64]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which rows have none."""
        return np.isnan(self.values)

    def only(self, rows: NDArray[Any]) -> Numbers:
        """Those of the rows given."""
        return Numbers(self.values[rows])


@dataclass(frozen=True)
class Texts:
    """A column of texts: each row's is that of its code (int32) in ``levels``; -1 is none."""

    codes: NDArray[np.int32]
    levels: list[str]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Which rows have none."""
        return self.codes < 0

    def only(self, rows: NDArray[Any]) -> Texts:
        """Those of the rows given."""
        return Texts(self.codes[rows], self.levels)

    def counts(self, rows: NDArray[Any] | None = None) -> dict[str, int]:
        """How often there is each level, in all rows or in those given; without those never met."""
        codes = self.codes if rows is None else self.codes[rows]
        found = np.bincount(codes[codes >= 0], minlength=len(self.levels))
        return {level: int(n) for level, n in zip(self.levels, found, strict=True) if n}

    def renamed(self, names: dict[str, str]) -> Texts:
        """With other names of some levels, which may become one."""
        levels = list(dict.fromkeys(names.get(level, level) for level in self.levels))
        index = {level: position for position, level in enumerate(levels)}
        table = [index[names.get(level, level)] for level in self.levels]
        return Texts(np.array([*table, -1], np.int32)[self.codes], levels)

    def first(self, levels: set[str]) -> int:
        """The first row that has one of ``levels``."""
        wanted = np.array([*(level in levels for level in self.levels), False])
        return int(wanted[self.codes].argmax())


def parse(cells: pa.ChunkedArray, format: CellFormat, place: Place, as_text: bool) -> Any:
    """The column as :class:`Numbers` if it may be (not ``as_text``) and is, else as Texts.

    Raises ``ValueError`` for a number that is not finite.
    """
    values = None if as_text else parse_numbers(cells, format)
    if values is None:
        return parse_texts(cells, format)
    if format.missing_numbers:
        values = np.where(np.isin(values, format.missing_numbers), nan, values)
    infinite = np.isinf(values)
    if infinite.any():
        row = int(infinite.argmax())
        raise ValueError(f"{place(row)}: {str(cells[row])!r} is not a (finite) number")
    return Numbers(values)


def parse_numbers(cells: pa.ChunkedArray, format: CellFormat) -> NDArray[np.float64] | None:
    """The numbers of a column, NaN where one is missing; None where a cell is something else."""
    import pyarrow as pa
    import pyarrow.types as kinds

    cells = _decoded(cells)
    kind = cells.type
    if kinds.is_null(kind):
        return np.full(len(cells), nan)
    if kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind):
        # numpy's own memory comes in large pages, which costs less than arrow's in small ones.
        chunks = cells.cast(pa.float64()).chunks
        found = [np.asarray(chunk.to_numpy(zero_copy_only=False)) for chunk in chunks]
        return np.concatenate(found) if found else np.empty(0)
    if not (kinds.is_string(kind) or kinds.is_large_string(kind)):
        return None
    # The first cells tell most columns of texts, and cost nothing.
    if len(cells) and _each(cells.slice(0, SAMPLE).combine_chunks(), format) is None:
        return None
    found = []
    for chunk in cells.chunks:
        values = _chunk(chunk, format)
        if values is None:
            return None
        found.append(values)
    return np.concatenate(found) if found else np.empty(0)


def parse_texts(cells: pa.ChunkedArray, format: CellFormat) -> Texts:
    """The texts of a column without blanks around them; those that say nothing are missing."""
    import pyarrow as pa
    import pyarrow.compute as compute
    import pyarrow.types as kinds

    cells = _decoded(cells)
    if not (kinds.is_string(cells.type) or kinds.is_large_string(cells.type)):
        cells = _days(cells) if kinds.is_timestamp(cells.type) else cells
        missing = cells.is_null(nan_is_null=True)
        cells = compute.if_else(missing, None, cells.cast(pa.string()))
    encoded = compute.dictionary_encode(cells).combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):  # of no row, or of too many texts for one array
        encoded = pa.concat_arrays(encoded.unify_dictionaries().chunks) if len(encoded) else None
    if encoded is None:
        return Texts(np.empty(0, np.int32), [])
    raw: list[str] = encoded.dictionary.to_pylist()
    codes = compute.fill_null(encoded.indices, -1).to_numpy().astype(np.int32)
    stripped = [text.strip() for text in raw]
    absent = {text for text in stripped if format.is_missing(clean(text))}
    levels = list(dict.fromkeys(text for text in stripped if text not in absent))
    index = {level: position for position, level in enumerate(levels)}
    table = [index.get(text, -1) for text in stripped]
    return Texts(np.array([*table, -1], np.int32)[codes], levels)


def parse_affixed(texts: Texts, affix: str, format: CellFormat, place: Place) -> Numbers:
    """The numbers of texts that have the unit ``affix``."""
    values = [_affixed(level, affix, format) for level in texts.levels]
    for level, value in zip(texts.levels, values, strict=True):
        if value is None or not np.isfinite(value):
            raise ValueError(
                f"{place(texts.first({level}))}: {level!r} is not a (finite) number of {affix}"
            )
    return Numbers(np.array([*values, nan], np.float64)[texts.codes])


def _affixed(level: str, affix: str, format: CellFormat) -> float | None:
    stripped = strip_affix(clean(level), affix)
    return format.number(stripped if stripped is not None else clean(level))


def _decoded(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.types as kinds

    kind = cells.type
    if kinds.is_dictionary(kind):
        cells = cells.cast(kind.value_type)
    return cells.cast(pa.large_string()) if kinds.is_string_view(cells.type) else cells


def _days(cells: pa.ChunkedArray) -> pa.ChunkedArray:
    """Points in time that are all midnight as the dates that they were."""
    import pyarrow as pa
    import pyarrow.compute as compute

    days = compute.floor_temporal(cells, unit="day")
    same = compute.all(compute.equal(days, cells), min_count=0).as_py()
    return cells.cast(pa.date32(), safe=False) if same and cells.type.tz is None else cells


def _chunk(chunk: pa.Array, format: CellFormat) -> NDArray[np.float64] | None:
    """A chunk of texts: all at once where they are written plainly, else each different one."""
    import pyarrow as pa
    import pyarrow.compute as compute

    words = pa.array(format.spellings, chunk.type)
    for prepare in (
        lambda: chunk,
        lambda: _masked(compute.utf8_trim_whitespace(chunk), words),
    ):
        try:
            cells = prepare()
            if not format.is_plain:
                if format.thousands or compute.any(compute.match_substring(cells, ".")).as_py():
                    break
                cells = compute.replace_substring(cells, ",", ".")
            values = compute.cast(cells, pa.float64())
        except pa.ArrowInvalid:
            continue
        found = values.to_numpy(zero_copy_only=False)
        # A nan that was typed is missing only where that word is listed.
        if "nan" in words.to_pylist() or values.null_count == np.isnan(found).sum():
            return np.asarray(found, np.float64)
        break
    return _each(chunk, format)


def _masked(cells: pa.Array, words: pa.Array) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute as compute

    return compute.if_else(compute.is_in(cells, words), pa.scalar(None, cells.type), cells)


def _each(chunk: pa.Array, format: CellFormat) -> NDArray[np.float64] | None:
    encoded = chunk.dictionary_encode()
    table = []
    for text in map(clean, encoded.dictionary.to_pylist()):
        value = nan if format.is_missing(text) else format.number(text)
        if value is None or (value != value and not format.is_missing(text)):
            return None
        table.append(value)
    codes = encoded.indices.fill_null(len(table)).to_numpy(zero_copy_only=False)
    return np.array([*table, nan], np.float64)[codes]
