"""New rows of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import Batch, Reader
from dltrain.data.streams.reader import several
from dltrain.data.tables.encoding import Scaling, is_missing, numbers, one_hot


class TableReader(Reader):
    """Reads rows as the run's own were read.

    An example is a mapping from column to cell (a text or a number), in which other columns are
    ignored, or a sequence of the cells of ``columns``. A column of ``levels`` becomes a feature of
    0 or 1 for each of them; a cell that is none is 0 in all. ``fill``, ``mean`` and ``std`` are
    those of :class:`~dltrain.data.tables.encoding.Scaling`; without ``fill`` a missing cell (empty,
    ?, NA, N/A, NaN, null, none) is refused.
    """

    def __init__(
        self,
        columns: Sequence[str],
        levels: Mapping[str, Sequence[str]] | None = None,
        fill: Sequence[float] = (),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
    ) -> None:
        self.columns, self.levels = list(columns), dict(levels or {})
        self.scaling = Scaling(list(fill), list(mean), list(std))

    def read(self, examples: Sequence[Any]) -> Batch:
        """The features, float32 (batch, features)."""
        rows = [self._cells(position, row) for position, row in enumerate(several(examples))]
        blocks = [self._block(name, [row[name] for row in rows]) for name in self.columns]
        return {"input": self.scaling(torch.cat(blocks, 1))}

    def node(self, folder: Path) -> dict[str, Any]:
        """Columns, levels and numbers."""
        return {
            "_target_": f"{__name__}.TableReader",
            "columns": self.columns,
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "fill": self.scaling.fill,
            "mean": self.scaling.mean,
            "std": self.scaling.std,
        }

    def _block(self, name: str, cells: list[str]) -> Tensor:
        if name in self.levels:
            return one_hot(cells, self.levels[name])
        return numbers(cells, lambda row: f"example {row}, column {name!r}")

    def _cells(self, position: int, example: Any) -> dict[str, str]:
        """The text of each column's cell."""
        if not isinstance(example, Mapping):
            example = self._named(position, example)
        found = {}
        for name in self.columns:
            if name not in example:
                raise ValueError(
                    f"example {position} has no column {name!r}. "
                    f"{did_you_mean(name, list(map(str, example)))} It needs "
                    f"{', '.join(self.columns)}.".replace("  ", " ")
                )
            cell = example[name]
            found[name] = "" if cell is None else str(cell).strip()
            if not self.scaling.fill and is_missing(found[name]):
                raise ValueError(f"example {position}, column {name!r} is empty")
        return found

    def _named(self, position: int, example: Any) -> dict[str, Any]:
        try:
            shape = np.shape(example)
        except ValueError:  # ragged
            shape = ()
        if shape != (len(self.columns),):
            raise ValueError(
                f"example {position} is neither a mapping from column to cell nor the "
                f"{len(self.columns)} cells of {', '.join(self.columns)}; got {example!r}"
            )
        return dict(zip(self.columns, np.asarray(example, object).tolist(), strict=True))
