"""New rows of a table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import Batch, Reader
from dltrain.contracts.preprocessing import Preprocessing, TensorSteps
from dltrain.data.streams.reader import require_scale, several
from dltrain.data.tables.encoding import Scaling
from dltrain.data.tables.features import Encoding, stacked
from dltrain.data.tables.one_by_one import is_frame, rows_of
from dltrain.data.tables.values import MISSING, CellFormat

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

ABSENT = frozenset({"<NA>", "NaT", "nan"})
"""How what stands for no value in pandas and numpy writes itself."""


class TableReader(Reader):
    """Reads rows as the run's own were read.

    An example is a mapping from column to cell (a text as in the file, a number, a truth value, a
    date), in which other columns are ignored, or a sequence of the cells of ``columns``. The
    arguments are those of :class:`~dltrain.data.tables.features.Encoding`,
    :class:`~dltrain.data.tables.values.CellFormat` and
    :class:`~dltrain.data.tables.encoding.Scaling`; without ``fill`` a missing cell is refused, and
    in a column of ``embedded`` unless ``index_missing`` (it is then none of the levels).
    """

    example = "row"

    def __init__(
        self,
        columns: Sequence[str],
        levels: Mapping[str, Sequence[str]] | None = None,
        booleans: Sequence[str] = (),
        dates: Mapping[str, str] | None = None,
        affixes: Mapping[str, str] | None = None,
        merge: bool = True,
        case: bool = False,
        decimal: str = ".",
        thousands: str = "",
        missing_values: Sequence[str] = MISSING,
        fill: Sequence[float] = (),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        embedded: Mapping[str, Sequence[str]] | None = None,
        index_missing: bool = False,
    ) -> None:
        self.columns = list(columns)
        format = CellFormat(decimal, thousands, tuple(missing_values))
        kinds = (dict(levels or {}), list(booleans), dict(dates or {}), dict(affixes or {}))
        self.encoding = Encoding(list(columns), format, *kinds, merge, case, dict(embedded or {}))
        self.index_missing = index_missing
        self.scaling = Scaling(list(fill), list(mean), list(std))
        size = len(self.encoding.feature_names)
        if mean or std:
            require_scale(mean, std, size)
        if fill and len(fill) != size:
            raise ValueError(f"fill must be a list of {size}, not of {len(fill)}")

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """The rows of a file, by its ending (.csv, .parquet, .jsonl, .json, .xlsx), or of a frame.

        An open text file is one of separated values.
        """
        for one in inputs:
            if isinstance(one, (str, Path)) or hasattr(one, "readline") or is_frame(one):
                yield from rows_of(one)
            else:
                yield one

    def read(self, examples: Sequence[Any]) -> Batch:
        """The features, float32 (batch, features); for each embedded column indices (batch,)."""
        rows = [self._cells(position, row) for position, row in enumerate(several(examples))]
        return self._batch(rows, np.zeros(len(rows), np.bool_))

    def _batch(self, rows: Sequence[Mapping[str, Any]], excused: NDArray[np.bool_]) -> Batch:
        """Cells as a batch; rows that are ``excused`` (rows,) may lack any of them."""
        blocks = []
        indices: Batch = {}
        for name in self.encoding.columns:
            column = [row[name] for row in rows]

            def place(row: int, name: str = name) -> str:
                return f"example {row}, column {name!r}"

            found = self.encoding.read(name, self._column(column), place)
            embedded = name in self.encoding.embedded
            fills = self.index_missing if embedded else bool(self.scaling.fill)
            missing = found.missing & ~excused
            if not fills and missing.any():
                raise ValueError(f"{place(int(missing.argmax()))} is empty")
            unknown = self.encoding.unknown(name, found)
            if unknown:
                logger.warning(
                    "%d cells of %r hold a level that no training row has; it counts as none of "
                    "them.",
                    *(unknown, name),
                )
            if embedded:
                indices[self.encoding.indices[name]] = torch.from_numpy(
                    self.encoding.index(name, found)
                )
            else:
                blocks.append(self.encoding.block(name, found, place))
        return {"input": self.scaling(stacked(blocks, len(rows))), **indices}

    def node(self, folder: Path) -> dict[str, Any]:
        return {
            "_target_": f"{__name__}.TableReader",
            **self.encoding.node(),
            "fill": self.scaling.fill,
            "mean": self.scaling.mean,
            "std": self.scaling.std,
            "index_missing": self.index_missing,
        }

    def preprocessing(self) -> Preprocessing | None:
        """``features``, float64 (batch, features), NaN where a cell is missing.

        The index of an embedded column stays an input of its own, ``input.COLUMN``.
        """
        scaling, names = self.scaling, self.encoding.feature_names
        outside = {"kind": "table", **self.encoding.node(), "features": names}
        outside |= {"fill": scaling.fill, "mean": scaling.mean, "std": scaling.std}
        outside |= {"index_missing": self.index_missing}
        return Preprocessing("features", Scaled(scaling, len(names)), outside)

    def _column(self, cells: Sequence[Any]) -> pa.ChunkedArray:
        """Numbers as numbers, whatever mark the table's texts have; all else as texts."""
        import pyarrow as pa

        if not any(isinstance(cell, str) for cell in cells):
            numbers = [None if cell is None else float(cell) for cell in cells]
            return pa.chunked_array([pa.array(numbers, pa.float64())])
        format = self.encoding.format
        texts = [
            None
            if cell is None
            else cell
            if isinstance(cell, str)
            else str(cell).replace(".", format.decimal)
            for cell in cells
        ]
        return pa.chunked_array([pa.array(texts, pa.string())])

    def _cells(self, position: int, example: Any) -> dict[str, Any]:
        """Each column's cell: a text, a number, or None."""
        if not isinstance(example, Mapping):
            example = self._named(position, example)
        found = {}
        for name in self.encoding.columns:
            if name not in example:
                raise ValueError(
                    f"example {position} has no column {name!r}. "
                    f"{did_you_mean(name, list(map(str, example)))} It needs "
                    f"{', '.join(self.columns)}.".replace("  ", " ")
                )
            found[name] = _cell(example[name])
        return found

    def _named(self, position: int, example: Any) -> dict[str, Any]:
        names = self.encoding.columns
        try:
            shape = np.shape(example)
        except ValueError:  # ragged
            shape = ()
        if shape != (len(names),):
            raise ValueError(
                f"example {position} is neither a mapping from column to cell nor the "
                f"{len(names)} cells of {', '.join(names)}; got {example!r}"
            )
        return dict(zip(names, np.asarray(example, object).tolist(), strict=True))


class Scaled(TensorSteps):
    """A table's :class:`~dltrain.data.tables.encoding.Scaling` of feature vectors, and back."""

    fill: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, scaling: Scaling, features: int) -> None:
        super().__init__()
        nothing = {"fill": float("nan"), "mean": 0.0, "std": 1.0}
        for name, value in nothing.items():
            known = getattr(scaling, name) or [value] * features
            self.register_buffer(name, torch.tensor(known, dtype=torch.float64))

    def forward(self, raw: Tensor) -> Tensor:
        return ((torch.where(raw.isnan(), self.fill, raw) - self.mean) / self.std).float()

    def restore(self, inputs: Tensor) -> Tensor:
        return inputs.double() * self.std + self.mean


def _cell(cell: Any) -> Any:
    """A cell as a text or a number; None where it says that there is no value."""
    if isinstance(cell, str) or cell is None:
        return cell
    if isinstance(cell, (bool, np.bool_)):
        return str(cell)
    if isinstance(cell, (int, np.integer)):
        return int(cell)
    text = str(cell)
    if text in ABSENT:
        return None
    try:
        # Arrays and tensors of one number, too; not a date.
        return float(cell)
    except (TypeError, ValueError):
        return text
