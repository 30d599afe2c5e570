"""New rows of a table with images and texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dltrain.contracts.data import Batch
from dltrain.contracts.preprocessing import Preprocessing
from dltrain.data.images.reader import ImageReader
from dltrain.data.streams.reader import several
from dltrain.data.tables.media import key_of, located
from dltrain.data.tables.reader import TableReader
from dltrain.data.text.vocabulary import PAD_INDEX, Vocabulary
from dltrain.files import open_within, read_within

TOKENIZER = "tokenizer_{}.json"


class MediaReader(TableReader):
    """Reads rows whose cells in the columns ``images`` are images, in ``texts`` texts.

    ``images`` has the arguments of an :class:`~dltrain.data.images.reader.ImageReader` a column: a
    cell is whatever that reads, a path being relative to the table's file. With ``optional`` a row
    may lack any input but one: a column of images or texts, a level, or all numbers together. The
    tokenizers of ``texts``, in order, lie in ``folder``, or are given as ``tokenizers``.
    """

    def __init__(
        self,
        columns: Sequence[str],
        images: Mapping[str, Mapping[str, Any]],
        texts: Sequence[str],
        optional: bool = False,
        folder: Path | None = None,
        tokenizers: Sequence[str] | None = None,
        **table: Any,
    ) -> None:
        super().__init__(columns, **table)
        self.optional = optional
        self.images = {name: ImageReader(**settings) for name, settings in images.items()}
        self._settings = {name: dict(settings) for name, settings in images.items()}
        if tokenizers is None:
            assert folder is not None, "a run's folder has the tokenizers"
            names = [TOKENIZER.format(number) for number in range(len(texts))]
            tokenizers = [read_within(folder, name).decode() for name in names]
        self._tokenizers = list(tokenizers)
        parsed = map(Vocabulary.parse, self._tokenizers)
        self.texts = dict(zip(texts, parsed, strict=True))
        self.columns = [*self.encoding.columns, *self.images, *self.texts]
        self.file_columns = list(self.images)

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """As of any table; paths of images are made relative to the file's folder."""
        for one in inputs:
            folder = Path(one).expanduser().parent if isinstance(one, (str, Path)) else None
            for row in super().expand([one]):
                if folder is None or not isinstance(row, Mapping):
                    yield row
                    continue
                yield {**row, **located(row, self.images, folder)}

    def read(self, examples: Sequence[Any]) -> Batch:
        """The table's columns; images (batch, c, h, w); ids of texts (batch, time)."""
        rows = [self._named_row(n, row) for n, row in enumerate(several(examples))]
        batch = self._features(rows)
        for name, reader in self.images.items():
            batch[key_of(name)] = self._images(name, reader, rows)
        for name, vocabulary in self.texts.items():
            absent = self._absent(name, rows)
            texts = ["" if row.get(name) is None else str(row[name]) for row in rows]
            ids = vocabulary.batch(texts)
            batch[key_of(name)] = ids.masked_fill(torch.tensor(absent)[:, None], PAD_INDEX)
        self._require_some(rows)
        return batch

    def node(self, folder: Path) -> dict[str, Any]:
        """Write the tokenizers."""
        for number, text in enumerate(self._tokenizers):
            with open_within(folder, TOKENIZER.format(number), "w") as file:
                file.write(text)
        return super().node(folder) | {
            "_target_": f"{__name__}.MediaReader",
            "images": self._settings,
            "texts": list(self.texts),
            "optional": self.optional,
        }

    def preprocessing(self) -> Preprocessing | None:
        """None: a network that is used without dltrain takes batches as :meth:`read` makes them."""
        return None

    def _named_row(self, position: int, example: Any) -> Mapping[str, Any]:
        if isinstance(example, Mapping):
            return example
        if isinstance(example, (str, bytes)) or len(example) != len(self.columns):
            raise ValueError(
                f"example {position} is neither a mapping from column to cell nor the "
                f"{len(self.columns)} cells of {', '.join(self.columns)}; got {example!r}"
            )
        return dict(zip(self.columns, example, strict=True))

    def _features(self, rows: Sequence[Mapping[str, Any]]) -> Batch:
        """Numbers and levels; where all numbers are left out, NaN."""
        names, embedded = self.encoding.columns, self.encoding.embedded
        if not names:
            return {"input": torch.empty(len(rows), 0)}
        numbers = [name for name in names if name not in embedded]
        bare = [bool(numbers) and all(_is_empty(row.get(name)) for name in numbers) for row in rows]
        if not self.optional:
            return super().read(rows)
        whole = [{**dict.fromkeys(names), **row} for row in rows]
        cells = [self._cells(number, row) for number, row in enumerate(whole)]
        kept, self.index_missing = self.index_missing, True
        try:
            batch = self._batch(cells, np.array(bare))
        finally:
            self.index_missing = kept
        batch["input"] = batch["input"].masked_fill(torch.tensor(bare)[:, None], torch.nan)
        return batch

    def _images(
        self, name: str, reader: ImageReader, rows: Sequence[Mapping[str, Any]]
    ) -> torch.Tensor:
        absent = self._absent(name, rows)
        shape = reader.shape
        blank = np.zeros((shape.channels, shape.height, shape.width), np.uint8)
        pixels = []
        for number, (row, gone) in enumerate(zip(rows, absent, strict=True)):
            if gone:
                pixels.append(blank)
                continue
            try:
                pixels.append(next(iter(reader.decoded([row[name]])))[0])
            except ValueError as error:
                said = str(error).removeprefix("example 0").removeprefix(f", {row[name]},")
                where = f"example {number}, column {name!r}: {row[name]}"
                raise ValueError(where + said) from error
        found = reader.inputs(pixels)
        return found.masked_fill(torch.tensor(absent)[:, None, None, None], torch.nan)

    def _absent(self, name: str, rows: Sequence[Mapping[str, Any]]) -> list[bool]:
        """Which rows lack a column. Raises ValueError where none may."""
        absent = [
            name not in row or row[name] is None or (name in self.images and _is_empty(row[name]))
            for row in rows
        ]
        if any(absent) and not self.optional:
            number = absent.index(True)
            raise ValueError(
                f"example {number} has no {name!r}. It needs {', '.join(self.columns)}; only a run "
                "that was trained with data.augment.drop takes rows without one of them"
            )
        return absent

    def _require_some(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for number, row in enumerate(rows):
            if all(_is_empty(row.get(name)) for name in self.columns):
                raise ValueError(f"example {number} has none of {', '.join(self.columns)}")


def _is_empty(cell: Any) -> bool:
    return cell is None or (isinstance(cell, str) and not cell.strip()) or cell != cell
