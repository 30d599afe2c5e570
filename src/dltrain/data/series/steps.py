"""Points in time that lie evenly: how far apart they are, and which come next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Unit = Literal["microsecond", "month", "number", "row"]
SECOND = 1_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
WORDS = ((7 * DAY, "week"), (DAY, "day"), (HOUR, "hour"), (60 * SECOND, "minute"))
SEASONS = {7 * DAY: 52, DAY: 7}
"""Steps to a year of weeks, to a week of days."""
LONGEST = 366 * DAY


@dataclass(frozen=True)
class Step:
    """How far apart two points in time are: ``size`` of a ``unit``.

    Points in time are int64: microseconds since 1970, numbers of a file's own, or rows.
    """

    size: int
    unit: Unit

    def __post_init__(self) -> None:
        """Both may come from a run's folder."""
        if self.size < 1 or self.unit not in get_args(Unit):
            raise ValueError(f"a step is a number of {', '.join(get_args(Unit))}; got {self}")

    def __str__(self) -> str:
        """As ``1 hour``, ``15 minutes``, ``3 months``."""
        if self.unit != "microsecond":
            return _counted(self.size, self.unit)
        for size, word in WORDS:
            if self.size % size == 0:
                return _counted(self.size // size, word)
        return f"{self.size / SECOND:g} seconds"

    @property
    def season(self) -> int | None:
        """Steps after which things come back: a day, a week, a year; None where none is usual."""
        if self.unit == "month":
            return 12 // self.size if 12 % self.size == 0 and self.size < 12 else None
        if self.unit != "microsecond":
            return None
        if self.size < DAY:
            return DAY // self.size if DAY % self.size == 0 else None
        return SEASONS.get(self.size)

    def places(self, times: NDArray[np.int64]) -> NDArray[np.float64]:
        """How many steps each of ``times`` (n,) lies behind the first; a fraction is no place."""
        if self.unit == "month":
            months, rest = _months(times)
            off = rest != rest[0]
            if _ends(times).all():
                off[:] = False
            return np.where(off, np.nan, (months - months[0]) / self.size)
        return (times - times[0]) / self.size

    def after(self, last: int, count: int) -> NDArray[np.int64]:
        """The ``count`` points in time that follow ``last``."""
        ahead = np.arange(1, count + 1)
        if self.unit != "month":
            return np.asarray(last + ahead * self.size, np.int64)
        months, rest = _months(np.array([last]))
        following = months + ahead * self.size
        starts, lengths = _starts(following), _starts(following + 1) - _starts(following)
        if _ends(np.array([last]))[0]:
            return np.asarray(starts + lengths - DAY + rest % DAY, np.int64)
        return np.asarray(starts + np.minimum(rest, lengths - DAY + rest % DAY), np.int64)


def step_of(times: NDArray[np.int64], unit: Unit) -> Step:
    """The step that most of ``times`` (n,), which increase, are apart; n is at least 2."""
    sizes, counts = np.unique(np.diff(times), return_counts=True)
    size = int(sizes[counts.argmax()])
    if unit != "microsecond" or not 28 * DAY <= size <= LONGEST:
        return Step(size, unit)
    months, rest = _months(times)
    if (rest == rest[0]).all() or _ends(times).all():
        sizes, counts = np.unique(np.diff(months), return_counts=True)
        return Step(int(sizes[counts.argmax()]), "month")
    return Step(size, unit)


def written(times: Sequence[int], unit: Unit) -> list[Any]:
    """Points in time as a table has them: dates as texts, others as whole numbers."""
    if unit in ("number", "row"):
        return [int(time) for time in times]
    moments = np.array(times, np.int64).astype("datetime64[us]")
    form: Callable[[Any], str] = str
    if not (moments.astype(np.int64) % DAY).any():
        return [form(day) for day in moments.astype("datetime64[D]")]
    whole = not (moments.astype(np.int64) % SECOND).any()
    texts = np.datetime_as_string(moments, unit="s" if whole else "us")
    return [str(text).replace("T", " ") for text in texts]


def _counted(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _starts(months: NDArray[np.int64]) -> NDArray[np.int64]:
    """When months, counted from January 1970, begin."""
    return months.astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)


def _months(times: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each time its month, counted from January 1970, and what has passed of it."""
    months = times.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)
    return months, times - _starts(months)


def _ends(times: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of ``times`` lie on the last day of a month."""
    months, rest = _months(times)
    return np.asarray(rest >= _starts(months + 1) - _starts(months) - DAY)
