"""Which pairs of image and mask are in which split."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dltrain.data.images.labels import read_cells
from dltrain.data.images.lists import read_list
from dltrain.data.masks.pairs import Pair
from dltrain.data.streams.division import Division, Grouped, Ordered
from dltrain.data.tables.dividing import RowSplits
from dltrain.data.tables.parse import Numbers, Texts

logger = logging.getLogger(__name__)

NAME = "name"
"""The ``order`` of files' names, the numbers in them as numbers, and of pages."""


class PairSplits:
    """Sets aside a test split, and says how a validation split is.

    ``test`` is a fraction, ``test`` or ``validation`` a file that lists images. ``table`` is a csv
    file of columns ``file`` and ``group``, ``order`` or ``split_column``, by which images are
    divided; ``order`` may be ``name`` without a table. Raises ValueError for what is no fraction,
    and for columns without a table.
    """

    def __init__(
        self,
        test: float | str,
        validation: float | str,
        table: str | None,
        group: str | None,
        order: str | None,
        split_column: str | None,
    ) -> None:
        if not isinstance(test, str) and not 0 < test < 1:
            raise ValueError(f"test is a fraction between 0 and 1, got {test}")
        lists = {"validation": validation, "test": test}
        self._lists = {n: Path(v).expanduser() for n, v in lists.items() if isinstance(v, str)}
        self._test = test
        self._by = RowSplits(group, order, split_column)
        self._table = None if table is None else Path(table).expanduser()
        self._by_name = order == NAME and table is None
        if self._by.column is not None and table is None and not self._by_name:
            raise ValueError(
                f"{self._by.key[0]} is a column of a table: give the file as table"
                + (", or order=name" if order else "")
            )
        if table is not None and self._by.column is None:
            raise ValueError("table: say which column counts: group, order or split_column")
        self._groups: Tensor | None = None

    @property
    def paths(self) -> list[Path]:
        """The files that are read."""
        return [*self._lists.values(), *([] if self._table is None else [self._table])]

    def divided(self, given: Mapping[str, list[Pair]], place: Path) -> dict[str, list[Pair]]:
        """With the splits that are taken from the training pairs."""
        pairs, found = given["train"], {n: some for n, some in given.items() if n != "train"}
        rows: dict[str, list[int]] = {}
        for split, path in self._lists.items():
            if split in found:
                raise ValueError(f"{split}: {path} lists images, and {place} has that split")
            rows[split] = _listed(split, path, place, pairs)
        taken = [row for some in rows.values() for row in some]
        if len(set(taken)) < len(taken):
            both = next(row for row in taken if taken.count(row) > 1)
            raise ValueError(f"{pairs[both].image} is listed for validation and for the test")
        left = sorted(set(range(len(pairs))) - set(taken))
        tested = "test" in found or "test" in rows
        test = None if tested or isinstance(self._test, str) else self._test
        parts = self._by.parts(
            self._column([pairs[row] for row in left], place), torch.zeros(len(left)), test
        )
        for split, part in parts.items():
            if split in rows or split in found:
                raise ValueError(f"column {self._by.column!r} names the split {split!r}, too")
            rows[split] = left if part is None else [left[row] for row in part.tolist()]
        self._groups = self._by.groups
        if not tested:
            if not rows["test"]:
                raise ValueError(
                    f"test={self._test} of {len(pairs):,} images is none: a larger fraction sets "
                    "some aside to test on"
                )
            logger.info(
                "no test split is given: %s of %s images are set aside as one, the same for every "
                "seed.",
                *(f"{len(rows['test']):,}", f"{len(pairs):,}"),
            )
        ordered = {"train": rows.pop("train"), **rows}
        return {**{n: [pairs[row] for row in some] for n, some in ordered.items()}, **found}

    def division(self, images: np.ndarray[Any, Any]) -> Division | None:
        """How rows are divided that are of the training ``images`` (rows,); None: drawn freely."""
        numbers = torch.from_numpy(images)
        tiled = len(numbers) > len(numbers.unique())
        if self._groups is not None:
            return Grouped(self._groups[numbers])
        if self._by.ordered:
            return LastImages(numbers) if tiled else Ordered()
        return Grouped(numbers) if tiled else None

    def _column(self, pairs: Sequence[Pair], place: Path) -> Numbers | Texts | None:
        if self._by_name:
            return Numbers(np.arange(len(pairs), dtype=np.float64))
        if self._table is None or self._by.column is None:
            return None
        paths = list(dict.fromkeys(pair.image.path for pair in pairs))
        cells = read_cells(self._table, place, paths, self._by.column)
        of_pairs = [cells[pair.image.path] for pair in pairs]
        texts = [cell for _, cell in of_pairs]
        return self._by.of_cells(str(self._table), texts, lambda row: of_pairs[row][0])


class LastImages(Grouped):
    """Tiles of images that lie in the order of time: the last images are set aside."""

    def order(self, count: int, seed: int) -> Tensor:
        """From the last to the first."""
        return Ordered().order(count, seed)

    def deal(self, rows: Tensor, folds: int) -> Tensor:
        """Raises :class:`UserError`, as for all that lies in an order."""
        return Ordered().deal(rows, folds)


def _listed(split: str, path: Path, place: Path, pairs: Sequence[Pair]) -> list[int]:
    """The rows of the images that a file lists; of one that has pages, all of them."""
    files = list(dict.fromkeys(pair.image.path for pair in pairs))
    chosen = {files[row] for row in read_list(split, path, place, files)}
    return [row for row, pair in enumerate(pairs) if pair.image.path in chosen]
