"""Images that ``datasets`` streams, from the hub or from local files: an ``IterableDataset``."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dltrain.data.shards.images import ImageShards
from dltrain.data.shards.parquet import first_line, tell_empty
from dltrain.data.shards.pieces import Piece, Shards
from dltrain.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

SOME = 64
"""Examples by which it is told how large one is."""
THREADS = 4
Columns = Callable[[str, Mapping[str, Any]], tuple[str, str]]
"""The columns of images and of labels, given what a split is called and its features."""


class HubShards(Shards):
    """A split that ``datasets`` streams; a piece is one of its shards.

    Constructing it reads the labels, to count the examples.
    """

    def __init__(self, place: str, data: Any, image: str, label: str, origin: str) -> None:
        from datasets import ClassLabel

        self._place, self.image, self.label = place, image, label
        feature = data.features[label]
        self.class_names = tuple(feature.names) if isinstance(feature, ClassLabel) else ()
        self._data = data
        count = data.num_shards
        self.names = [f"{place}, shard {number}" for number in range(count)]
        some = next(self._tables(data, [image], SOME), None)
        size = 1 if some is None else max(1, some.nbytes // len(some))
        with ThreadPoolExecutor(THREADS) as pool:
            rows = list(pool.map(self._counted, range(count)))
        self.pieces = [Piece(n, n, 0, many, many * size) for n, many in enumerate(rows) if many]
        if not self.pieces:
            raise UserError(f"data.path: {place} has no example.")
        tell_empty([self.names[n] for n, many in enumerate(rows) if not many], count)
        told = hashlib.blake2b(f"{origin} {rows}".encode(), digest_size=16)
        self._digest = told.hexdigest()

    def read(self, piece: Piece, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for table in self._tables(self._shard(piece.shard), columns, self.chunk):
            yield from table.select(list(columns)).combine_chunks().to_batches()

    def digest(self) -> str:
        """Of what ``datasets`` knows of the files' origin, and of how many examples they have."""
        return self._digest

    def _counted(self, number: int) -> int:
        assert self.label is not None
        return sum(map(len, self._tables(self._shard(number), [self.label], 10_000)))

    def _shard(self, number: int) -> Any:
        count = self._data.num_shards
        return self._data.shard(count, number) if count > 1 else self._data

    def _tables(self, data: Any, columns: Sequence[str], rows: int) -> Iterator[pa.Table]:
        try:
            yield from data.select_columns(list(columns)).with_format("arrow").iter(rows)
        except Exception as error:
            # Whatever files or a server do wrong comes out of datasets as any exception.
            raise UserError(f"{self._place} cannot be read: {first_line(error)}") from error


class HubStreamed(ImageShards):
    """A data set by its name or local path, split as it is there.

    ``names`` are those of the splits train, validation and test; of what is missing a fraction is
    set aside. ``columns`` tells which columns are used.
    """

    def __init__(
        self,
        path: str,
        config: str | None,
        names: Mapping[str, str],
        columns: Columns,
        **images: Any,
    ) -> None:
        super().__init__(path, **images)
        self._path, self._config, self._names, self._columns = path, config, names, columns

    def opened(self) -> Mapping[str, Shards]:
        data, origins = streamed(self._path, self._config)
        if self._names["train"] not in data:
            raise UserError(
                f"data.path: {self._path} has no split {self._names['train']!r}; it has "
                f"{', '.join(data)}."
            )
        found: dict[str, Shards] = {}
        for split, name in self._names.items():
            if name in data:
                place = f"{self._path}, split {name!r}"
                columns = self._columns(place, data[name].features)
                found[split] = HubShards(place, data[name], *columns, origins.get(name, ""))
        return found


def streamed(path: str, config: str | None) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """A data set by split, and where each split's files are from.

    Raises :class:`UserError` for what cannot be had.
    """
    from datasets import IterableDataset, load_dataset, load_dataset_builder

    local = Path(path).expanduser()
    if path == "pandas" and not local.exists():
        raise UserError("data.path: pandas means pickles, which may run code; give parquet files.")
    name = str(local.absolute()) if local.exists() else path
    try:
        files = load_dataset_builder(name, config).config.data_files or {}
        data = load_dataset(name, config, streaming=True)
    except Exception as error:
        # As above; without a network, this is where it ends.
        hint = "" if local.exists() else " Streaming needs a network, or a local folder."
        raise UserError(
            f"data.path: {path} cannot be streamed: {first_line(error).rstrip('.')}.{hint}"
        ) from error
    for split, rows in data.items():
        if not isinstance(rows, IterableDataset) or rows.features is None:
            raise UserError(
                f"data.path: {path}, split {split!r}: nothing says which columns it has before it "
                "is read; data.streaming=false reads it."
            )
    origins = {
        split: str([*map(str, own), getattr(own, "origin_metadata", "")])
        for split, own in files.items()
    }
    return data, origins
