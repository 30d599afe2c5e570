"""New histories: the end of a file, or arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dltrain.contracts.data import Batch, Reader
from dltrain.contracts.preprocessing import Preprocessing
from dltrain.data.series.regular import Duplicates, Gaps, Rules, regular
from dltrain.data.series.steps import Step, Unit
from dltrain.data.streams.reader import require_scale, several
from dltrain.data.tables.encoding import Scaling
from dltrain.data.tables.files import read_table
from dltrain.data.tables.one_by_one import is_frame, rows_of
from dltrain.data.tables.raw import RawTable
from dltrain.data.tables.reader import Scaled
from dltrain.data.tables.values import MISSING, CellFormat
from dltrain.errors import require_at_least


class History(NamedTuple):
    """``values`` (steps, series), and the points in time that follow (horizon,)."""

    values: NDArray[np.float64]
    following: NDArray[np.int64]

    def __str__(self) -> str:
        return f"{len(self.values)} steps"


class SeriesReader(Reader):
    """Reads what a forecast begins with: the last ``history`` steps of ``columns``.

    An example is a :class:`History`, an array (history, columns), or a mapping from column to what
    it was (history,). The other arguments are as the
    run's data had them: its ``step`` and ``unit`` of time, its rules, and what it was scaled by.
    """

    example = "series"

    def __init__(
        self,
        columns: Sequence[str],
        history: int,
        horizon: int,
        mean: Sequence[float],
        std: Sequence[float],
        step: int,
        unit: Unit,
        time: str | None = None,
        date_format: str | None = None,
        sort: bool = False,
        duplicates: Duplicates = "refuse",
        gaps: Gaps = "refuse",
        decimal: str = ".",
        thousands: str = "",
        missing_values: Sequence[str] = MISSING,
    ) -> None:
        require_at_least(1, history=history, horizon=horizon)
        require_scale(mean, std, len(columns))
        self.columns = list(columns)
        self.history, self.horizon = history, horizon
        self.step = Step(step, unit)
        format = CellFormat(decimal, thousands, tuple(missing_values))
        self.rules = Rules(time, time is None, date_format, sort, duplicates, gaps, format)
        self.scaling = Scaling([], list(mean), list(std))

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """The end of each file, by its ending, of a data frame or of an open csv file."""
        for one in inputs:
            if isinstance(one, (str, Path)):
                path = Path(one).expanduser()
                if not path.is_file():
                    raise ValueError(f"{path} is no file of series")
                yield self._end(read_table(path, format=self.rules.format))
            elif hasattr(one, "readline") or is_frame(one):
                yield self._end(_table(one))
            else:
                yield one

    def read(self, examples: Sequence[Any]) -> Batch:
        """``input`` (batch, history, columns), scaled; ``time`` (batch, horizon) if known."""
        values = [self._values(n, example) for n, example in enumerate(several(examples))]
        batch = {"input": self.scaling(torch.from_numpy(np.stack(values)))}
        if all(isinstance(example, History) for example in examples):
            batch["time"] = torch.from_numpy(np.stack([one.following for one in examples]))
        return batch

    def node(self, folder: Path) -> dict[str, Any]:
        format = self.rules.format
        return {
            "_target_": f"{__name__}.SeriesReader",
            "columns": self.columns,
            "history": self.history,
            "horizon": self.horizon,
            "mean": list(self.scaling.mean),
            "std": list(self.scaling.std),
            "step": self.step.size,
            "unit": self.step.unit,
            "time": self.rules.time,
            "date_format": self.rules.date_format,
            "sort": self.rules.sort,
            "duplicates": self.rules.duplicates,
            "gaps": self.rules.gaps,
            "decimal": format.decimal,
            "thousands": format.thousands,
            "missing_values": list(format.missing),
        }

    def preprocessing(self) -> Preprocessing:
        """``history``, float64 (batch, history, columns), in the series' own units."""
        shape = [self.history, len(self.columns)]
        outside = {"kind": "array", "shape": shape, "columns": self.columns}
        return Preprocessing("history", Scaled(self.scaling, len(self.columns)), outside)

    def _end(self, table: RawTable) -> History:
        """The last steps of a file, and what comes after."""
        for name in (*([] if self.rules.time is None else [self.rules.time]), *self.columns):
            table.require(name)
        # Of gaps before what the network reads nothing follows.
        allowed = replace(self.rules, gaps="fill" if self.rules.gaps == "fill" else "split")
        series = regular(table, self.columns, allowed, self.step)
        if len(series) < self.history:
            raise ValueError(
                f"{table.name} has {len(series):,} steps; the network reads the last {self.history}"
            )
        gaps = np.flatnonzero(~series.real[-self.history :])
        if self.rules.gaps != "fill" and len(gaps):
            when = series.when(len(series) - self.history + int(gaps[0]))
            raise ValueError(
                f"{table.name}: of the last {self.history} steps, which the network reads, "
                f"{len(gaps):,} lack a value, the first of them {when}"
            )
        following = self.step.after(int(series.times[-1]), self.horizon)
        return History(series.values[-self.history :], following)

    def _stacked(self, position: int, example: Mapping[str, Any]) -> Any:
        lacking = [name for name in self.columns if name not in example]
        if lacking:
            raise ValueError(
                f"example {position} has no series {lacking[0]!r}; it needs "
                f"{', '.join(self.columns)}"
            )
        found = [example[name] for name in self.columns]
        if any(np.ndim(values) == 0 for values in found):
            raise ValueError(
                f"example {position} is one row; give a file of rows, or an array of "
                f"{self.history} steps of {len(self.columns)} series"
            )
        if len({len(values) for values in found}) > 1:
            raise ValueError(f"example {position} has series of different lengths")
        return np.stack(found, 1)

    def _values(self, position: int, example: Any) -> NDArray[np.float64]:
        values = example.values if isinstance(example, History) else example
        if isinstance(example, Mapping):
            values = self._stacked(position, example)
        try:
            found = np.asarray(values, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"example {position} is no array of numbers: {error}") from error
        wanted = (self.history, len(self.columns))
        if found.shape != wanted:
            raise ValueError(
                f"example {position} is of shape {found.shape}, not {wanted}: {self.history} steps "
                f"of {', '.join(self.columns)}"
            )
        if not np.isfinite(found).all():
            raise ValueError(f"example {position} has a number that is not finite")
        return found


def _table(rows: Any) -> RawTable:
    """A data frame, or an open file of csv, as a table."""
    import pyarrow as pa

    found: dict[str, list[Any]] = {}
    count = 0
    for row in rows_of(rows):
        for name, cell in row.items():
            found.setdefault(str(name), []).append(_plain(cell))
        count += 1
    if not count:
        raise ValueError("the series has no row")
    columns = {name: pa.chunked_array([pa.array(cells)]) for name, cells in found.items()}
    return RawTable("the series", count, columns, lambda row: f"row {row + 1}")


def _plain(cell: Any) -> Any:
    """A cell as arrow takes it."""
    if isinstance(cell, float) and math.isnan(cell):
        return None
    return cell.to_pydatetime() if hasattr(cell, "to_pydatetime") else cell
