"""Anyone's own series over time, to be forecast from what was before."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dltrain.contracts.data import DataSpec, Field, Labeled, Placement, Reader, Source, Stream
from dltrain.contracts.paths import FilePath, PathInRoot
from dltrain.data.identity import describe
from dltrain.data.series.reader import SeriesReader
from dltrain.data.series.regular import Duplicates, Gaps, Rules, Series, regular, time_of
from dltrain.data.series.windows import Lengths, WindowStream, starts_of
from dltrain.data.streams.in_memory import Batching, Limits
from dltrain.data.tables.encoding import is_constant
from dltrain.data.tables.files import read_table
from dltrain.data.tables.raw import RawTable
from dltrain.data.tables.values import MISSING, CellFormat
from dltrain.errors import UserError, require_at_least

logger = logging.getLogger(__name__)

ALL = "all"
TIME = "time"
"""The field of the points in time that are forecast."""


class SeriesFile(Source):
    """Series over time in a table, a row a point in time: ``history`` steps, then ``horizon`` more.

    ``target`` names the series that are forecast, one or several, or is ``all``; ``features`` those
    that are read beside the targets' own past (None: all others). ``exclude`` leaves columns out.
    What becomes of rows that are no even steps, :class:`~dltrain.data.series.regular.Rules` says.

    The splits follow each other in time. ``test`` and ``validation`` are fractions of all steps, or
    numbers of them: those at the end, and those before. With ``train``, too, a number or a
    fraction, they begin with the first step, and what is left over at the end is not used. The
    horizons of a split's windows lie within it; their histories may reach into the split before. A
    training window begins every ``stride`` steps, any other every step. The series are scaled to
    mean 0 and std 1 in training. ``season`` is after how many steps values come back (None: a day
    of shorter steps, a week of days, a year of weeks and months): by it naive forecasts are made.

    Reading raises ``ValueError`` naming file and line of what cannot be used.
    """

    def __init__(
        self,
        path: PathInRoot,
        target: str | Sequence[str],
        history: int = 96,
        horizon: int = 96,
        features: Sequence[str] | None = None,
        exclude: Sequence[str] = (),
        train: float | None = None,
        validation: float = 0.1,
        test: float = 0.2,
        stride: int = 1,
        season: int | None = None,
        time: str | None = None,
        by_row: bool = False,
        date_format: str | None = None,
        sort: bool = False,
        duplicates: Duplicates = "refuse",
        gaps: Gaps = "refuse",
        missing_values: Sequence[str] = MISSING,
        decimal: str = ".",
        thousands: str | None = None,
        separator: str | None = None,
        encoding: str | None = None,
        root: FilePath | None = None,
        batch_size: int = 32,
        evaluation_batch_size: int = 1000,
    ) -> None:
        require_at_least(
            1,
            history=history,
            horizon=horizon,
            stride=stride,
            season=1 if season is None else season,
            batch_size=batch_size,
            evaluation_batch_size=evaluation_batch_size,
        )
        for name, value in (("train", train), ("validation", validation), ("test", test)):
            if value is not None and (value < 0 or (value >= 1 and value != int(value))):
                raise ValueError(f"{name} is a fraction below 1 or a number of steps, got {value}")
        if train == 0:
            raise ValueError("train must be above 0, or null: all that is left")
        if by_row and time is not None:
            raise ValueError("by_row takes each row for a step, and time names a column: not both")
        if not target:
            raise ValueError("target names a series, several, or is all")
        self.path = Path(root or ".").expanduser() / Path(path).expanduser()
        self.target, self.features, self.exclude = target, features, list(exclude)
        self.lengths, self.stride, self.season = Lengths(history, horizon), stride, season
        self.wanted = {"train": train, "validation": validation, "test": test}
        format = CellFormat(decimal, thousands or "", tuple(missing_values))
        self.rules = Rules(time, by_row, date_format, sort, duplicates, gaps, format)
        self.separator, self.encoding = separator, encoding
        self.batch_size, self.evaluation_batch_size = batch_size, evaluation_batch_size
        self._series: Series | None = None
        self._columns: list[str] = []
        self._targets = 0
        self._time: str | None = None
        self._borders: dict[str, tuple[int, int]] = {}
        self._starts: dict[str, NDArray[np.int64]] = {}
        self._mean: NDArray[np.float64] = np.empty(0)
        self._std: NDArray[np.float64] = np.empty(0)

    def outline(self) -> DataSpec:
        """How long windows are; once the file is read, which series they have."""
        if self._series is None:
            return DataSpec(
                {
                    "input": Field((self.lengths.history, None), "number", "input"),
                    "target": Field((self.lengths.horizon, None), "number", "target"),
                },
                complete=False,
            )
        columns, targets = self._columns, self._targets
        mean, std, step = self._mean.tolist(), self._std.tolist(), self._series.step
        is_date = step.unit in ("month", "microsecond")
        return DataSpec(
            {
                "input": Field(
                    (self.lengths.history, len(columns)), "number", "input",
                    names=tuple(columns), mean=mean, std=std,
                ),
                "target": Field(
                    (self.lengths.horizon, targets), "number", "target",
                    names=tuple(columns[:targets]), mean=mean[:targets], std=std[:targets],
                    period=self.season or step.season,
                ),
                TIME: Field(
                    (self.lengths.horizon,), "time" if is_date else "number",
                    names=(self._time or "step",),
                ),
            }
        )  # fmt: skip

    def read(self, seed: int) -> DataSpec:
        """Read the file, divide it in time, and learn the scale of its training part."""
        table = read_table(self.path, self.separator, self.encoding, self.rules.format)
        self._time = time_of(table, self.rules)
        targets, others = self._chosen(table)
        self._columns, self._targets = [*targets, *others], len(targets)
        series = regular(table, self._columns, self.rules)
        self._borders = self._divided(len(series))
        forecast = series.real
        usable = forecast if self.rules.gaps == "split" else np.ones_like(forecast)
        for split, (low, high) in self._borders.items():
            first = self.lengths.history if split == "train" else low
            found = starts_of(usable, forecast, self.lengths, first, high)
            self._starts[split] = found[:: self.stride] if split == "train" else found
            if not len(found):
                self._too_short(split, high - low)
        self._series = series
        self._learn()
        self._tell(series)
        return self.outline()

    def open(self, placement: Placement) -> dict[str, Stream]:
        """Windows of each split; those to train on in random order."""
        assert self._series is not None, "read() comes first"
        values = torch.from_numpy(self._series.values)
        mean, std = torch.from_numpy(self._mean), torch.from_numpy(self._std)
        inputs, targets = ((values - mean) / std).float(), values[:, : self._targets].contiguous()
        streams: dict[str, Stream] = {}
        for split, starts in self._starts.items():
            training = split == "train"
            batching = Batching(
                Limits(self.batch_size if training else self.evaluation_batch_size),
                placement.device,
                lambda batch, draw: batch,
                placement.seed,
                shuffle=training,
            )
            begins = torch.from_numpy(starts)
            streams[split] = WindowStream(inputs, targets, begins, self.lengths, batching)
        return streams

    def reader(self) -> Reader:
        """Of files whose end is to be continued, and of histories as arrays."""
        assert self._series is not None, "read() comes first"
        rules, step = self.rules, self._series.step
        return SeriesReader(
            columns=self._columns,
            history=self.lengths.history,
            horizon=self.lengths.horizon,
            mean=self._mean.tolist(),
            std=self._std.tolist(),
            step=step.size,
            unit=step.unit,
            time=self._time,
            date_format=rules.date_format,
            sort=rules.sort,
            duplicates=rules.duplicates,
            gaps=rules.gaps,
            decimal=rules.format.decimal,
            thousands=rules.format.thousands,
            missing_values=list(rules.format.missing),
        )

    def labeled(self, split: str | None) -> Iterator[Labeled]:
        """Histories and what followed, of windows of a split, in the series' own units."""
        if split is not None and split not in self._starts:
            raise UserError(f"this data has no {split} split, but {', '.join(self._starts)}.")
        assert self._series is not None, "read() comes first"
        values, past = self._series.values, np.arange(self.lengths.history)
        future = np.arange(self.lengths.history, self.lengths.window)
        for name in self._starts if split is None else [split]:
            starts = self._starts[name]
            for first in range(0, len(starts), self.evaluation_batch_size):
                begins = starts[first : first + self.evaluation_batch_size, None]
                target = values[begins + future, : self._targets]
                examples = [
                    dict(zip(self._columns, history.T, strict=True))
                    for history in values[begins + past]
                ]
                yield Labeled(examples, torch.from_numpy(target))

    def identity(self) -> Mapping[str, Any]:
        """How many windows each split has, a digest of its values, and the file they are from."""
        assert self._series is not None, "read() comes first"
        splits = {}
        for split, (low, high) in self._borders.items():
            content = np.ascontiguousarray(self._series.values[low:high], "<f8").tobytes()
            digest = hashlib.blake2b(content, digest_size=16).hexdigest()
            splits[split] = {"examples": len(self._starts[split]), "digest": digest}
        return {"splits": splits, "files": describe([self.path])}

    def report(self) -> Sequence[Mapping[str, Any]]:
        """A line for each series, of its training part."""
        assert self._series is not None, "read() comes first"
        train = self._series.values[slice(*self._borders["train"])]
        return [
            {
                "series": name,
                "role": "target" if number < self._targets else "feature",
                "mean": float(self._mean[number]),
                "std": float(self._std[number]),
                "min": float(train[:, number].min()),
                "max": float(train[:, number].max()),
            }
            for number, name in enumerate(self._columns)
        ]

    def _chosen(self, table: RawTable) -> tuple[list[str], list[str]]:
        """The series that are forecast, and the others that are read."""
        named = [self.target] if isinstance(self.target, str) else list(self.target)
        free = [n for n in table.columns if n != self._time and n not in self.exclude]
        for name in self.exclude:
            table.require(name)
        if self.target == ALL:
            if ALL in table.columns:
                raise ValueError("target: all is a column, too; data.target=[all] means the column")
            if not free:
                raise ValueError(
                    f"{table.name} has no column beside its times: nothing to forecast"
                )
            named = free
        used = [*named, *(self.features or ())]
        for name in used:
            table.require(name)
            if name == self._time or name in self.exclude:
                why = "holds the times" if name == self._time else "is excluded"
                raise ValueError(f"{table.name}: column {name!r} {why}; it cannot be a series, too")
        if len(set(named)) < len(named):
            raise ValueError(f"target names a series twice: {', '.join(named)}")
        others = free if self.features is None else dict.fromkeys(self.features)
        return named, [name for name in others if name not in named]

    def _divided(self, steps: int) -> dict[str, tuple[int, int]]:
        """Where each split that is wanted begins and ends."""
        sizes = {
            split: round(steps * size) if size < 1 else int(size)
            for split, size in self.wanted.items()
            if size is not None
        }
        sizes = {"train": steps - sum(sizes.values())} | sizes
        if min(sizes.values()) < 0 or sizes["train"] == 0 or sum(sizes.values()) > steps:
            wanted = ", ".join(f"data.{s}={v}" for s, v in self.wanted.items() if v is not None)
            raise ValueError(f"{self.path} has {steps:,} steps; they cannot be divided by {wanted}")
        borders, low = {}, 0
        for split, size in sizes.items():
            if size:
                borders[split] = (low, low + size)
            low += size
        if low < steps:
            logger.info(
                "%s: the last %s steps are in no split.", self.path.name, f"{steps - low:,}"
            )
        return borders

    def _too_short(self, split: str, steps: int) -> None:
        history, horizon = self.lengths.history, self.lengths.horizon
        needed = f"data.horizon={horizon}"
        if split == "train":
            needed = f"data.history={history} and {needed}"
        gaps = " without a gap" if self.rules.gaps != "refuse" else ""
        hint = "" if split == "train" else f", data.{split}=0 sets none aside"
        raise ValueError(
            f"{self.path}: the {split} split has {steps:,} steps, and no window of {needed}{gaps}; "
            f"take shorter ones{hint}"
        )

    def _learn(self) -> None:
        """Mean and std of each series over the training steps that have a value."""
        assert self._series is not None
        low, high = self._borders["train"]
        train = self._series.values[low:high][self._series.real[low:high]]
        mean, variance = train.mean(0), train.var(0)
        same = is_constant(torch.from_numpy(variance), torch.from_numpy(mean), len(train)).numpy()
        self._mean, self._std = mean, np.where(same, 1.0, np.sqrt(variance))
        constant = [name for name, flat in zip(self._columns, same, strict=True) if flat]
        if constant:
            forecast = [name for name in constant if name in self._columns[: self._targets]]
            logger.warning(
                "%s: %s %s one value in all training steps%s; data.exclude leaves a column out.",
                *(self.path.name, ", ".join(map(repr, constant))),
                "has" if len(constant) == 1 else "have",
                ": nothing can be learned to forecast " + ", ".join(forecast) if forecast else "",
            )

    def _tell(self, series: Series) -> None:
        """Log what was read, and how it is divided."""
        parts = [
            f"{split} {len(self._starts[split]):,} ({series.when(low)} to {series.when(high - 1)})"
            for split, (low, high) in self._borders.items()
        ]
        logger.info(
            "%s: %s steps of %s, %d series, %d of them forecast. Windows: %s.",
            *(self.path.name, f"{len(series):,}", series.step, len(self._columns), self._targets),
            ", ".join(parts),
        )
        if not (self.season or series.step.season):
            logger.info(
                "no season is usual of steps of %s; data.season says after how many steps values "
                "come back, for the seasonal naive forecast.",
                series.step,
            )
