"""Shards that are Parquet files: a piece is a row group."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from dltrain.config.suggest import did_you_mean
from dltrain.data.shards.pieces import Piece, Shards, names_of
from dltrain.errors import UserError
from dltrain.files import require_file

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

BUFFER = 1 << 18
"""Bytes of a column that are read at once."""
PAGE = 1024
"""Rows after which a page ends at the earliest, however large they are, in pyarrow's files."""
THREADS = 8
"""Files whose ends are read at once."""
SHOWN = 3


class _Footer(NamedTuple):
    schema: pa.Schema
    groups: Sequence[tuple[int, int]]
    """Of each row group its rows and bytes."""
    digest: str


class ParquetShards(Shards):
    """``files`` of the same columns. Constructing it reads what stands at their ends.

    Raises :class:`UserError` naming a file that is none, or whose columns are others.
    """

    def __init__(self, key: str, files: Sequence[Path], needed: Sequence[str] | None) -> None:
        self.files = files
        with ThreadPoolExecutor(THREADS) as pool:
            footers = list(pool.map(_footer, files))
        self.schema = footers[0].schema
        self.names = names_of(files)
        self._key = key
        self.pieces = []
        digest = hashlib.blake2b(digest_size=16)
        empty = []
        for shard, footer in enumerate(footers):
            self._require_alike(files[0], files[shard], footer.schema, needed)
            digest.update(f"{self.names[shard]}\0{footer.digest}\0".encode())
            first = 0
            for number, (rows, size) in enumerate(footer.groups):
                if rows:
                    self.pieces.append(Piece(shard, number, first, rows, size))
                first += rows
            if not first:
                empty.append(self.names[shard])
        self._digest = digest.hexdigest()
        if len(empty) == len(files):
            raise UserError(f"data.{key}: no shard has a row: {', '.join(empty[:SHOWN])}.")
        tell_empty(empty, len(files))

    def read(self, piece: Piece, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa
        import pyarrow.parquet

        path = self.files[piece.shard]
        try:
            with pa.parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
                for batch in file.iter_batches(
                    self.chunk, [piece.number], list(columns), use_threads=False
                ):
                    yield batch.select(columns)  # in this order, not the file's
        except (pa.ArrowException, OSError) as error:
            raise UserError(f"{path} is cut off or damaged: {first_line(error)}") from error

    def digest(self) -> str:
        """Of what stands at the files' ends: sizes, numbers of rows, least and greatest values."""
        return self._digest

    @property
    def held(self) -> int:
        """A page: writers look at its size only after so many rows."""
        return min(PAGE * self.row_size, max(piece.size for piece in self.pieces))

    def require(self, key: str, name: str) -> None:
        """Raise :class:`UserError` listing the columns there are, unless ``name`` is one."""
        if name not in self.schema.names:
            hint = did_you_mean(name, self.schema.names)
            raise UserError(
                f"data.{key}: {self.files[0]} has no column {name!r}. {hint} It has "
                f"{', '.join(self.schema.names)}.".replace("  ", " ")
            )

    def named_classes(self, column: str) -> tuple[str, ...]:
        """What the classes 0, 1, … of a column are called, where ``datasets`` wrote so."""
        try:
            info = json.loads((self.schema.metadata or {}).get(b"huggingface", b"{}"))
            names = info["info"]["features"][column]["names"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return ()
        known = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return tuple(names) if known else ()

    def _require_alike(
        self, one: Path, other: Path, schema: pa.Schema, needed: Sequence[str] | None
    ) -> None:
        first = self.schema
        if len({*schema.names}) < len(schema.names):
            name = next(name for name in schema.names if schema.names.count(name) > 1)
            raise UserError(f"data.{self._key}: {other} has two columns called {name!r}.")
        for name in first.names if needed is None else needed:
            if name not in first.names:
                continue  # as will be said
            if name not in schema.names:
                raise UserError(
                    f"data.{self._key}: {other} lacks the column {name!r}, which {one} has. It has "
                    f"{', '.join(schema.names)}."
                )
            types = first.field(name).type, schema.field(name).type
            if not _alike(*types):
                raise UserError(
                    f"data.{self._key}: the column {name!r} is {types[1]} in {other}, and "
                    f"{types[0]} in {one}."
                )
        new = set(schema.names) - set(first.names)
        if new and needed is None:
            raise UserError(
                f"data.{self._key}: {other} has the column {min(new)!r}, which {one} lacks."
            )


def tell_empty(names: Sequence[str], count: int) -> None:
    """Log the shards that have no example, of so many."""
    if names:
        more = ", …" if len(names) > SHOWN else ""
        logger.warning(
            "%d of %d shards have no example: %s%s.",
            *(len(names), count, ", ".join(names[:SHOWN]), more),
        )


def _alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether columns of two files are of one type, as far as their values are used.

    A column that holds nothing is of any type; of images that ``datasets`` wrote, only the bytes
    are used.
    """
    import pyarrow.types as kinds

    if one == other or kinds.is_null(one) or kinds.is_null(other):
        return True
    if kinds.is_struct(one) and kinds.is_struct(other):
        at = one.get_field_index("bytes"), other.get_field_index("bytes")
        return min(at) >= 0 and _alike(one.field(at[0]).type, other.field(at[1]).type)
    return False


def _footer(path: Path) -> _Footer:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        require_file(path)
        with pa.parquet.ParquetFile(path) as file:
            found = file.metadata
            groups = [found.row_group(number) for number in range(found.num_row_groups)]
            sizes = [(group.num_rows, group.total_byte_size) for group in groups]
            schema = file.schema_arrow
            length = found.serialized_size
        with path.open("rb") as opened:
            opened.seek(-min(length + 8, path.stat().st_size), 2)
            end = opened.read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is no Parquet file that can be read to its end: {first_line(error)}"
        ) from error
    told = hashlib.blake2b(end + str(path.stat().st_size).encode(), digest_size=16)
    return _Footer(schema.remove_metadata().with_metadata(_kept(schema)), sizes, told.hexdigest())


def _kept(schema: pa.Schema) -> Mapping[bytes, bytes]:
    """What of a file's own words is used."""
    words: Mapping[bytes, bytes] = schema.metadata or {}
    return {key: value for key, value in words.items() if key == b"huggingface"}


def first_line(error: Exception) -> str:
    """What a library says, for a message of one line."""
    return str(error).strip().partition("\n")[0] or type(error).__name__
