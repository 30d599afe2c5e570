"""Dates in tables: which way a column writes them, and the numbers that a model can use of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TIME = r"(?P<time>[T ]\d{1,2}:\d{2}(?P<seconds>:\d{2})?)?"
ISO = re.compile(
    r"\d{4}-\d{2}-\d{2}(?P<time>[T ]\d{2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?)? ?(?:Z|[+-]\d{2}:?\d{2})?\Z"
)
ORDERS = {
    re.compile(rf"\d{{4}}/\d{{1,2}}/\d{{1,2}}{TIME}\Z"): ("%Y/%m/%d",),
    re.compile(rf"\d{{1,2}}\.\d{{1,2}}\.\d{{4}}{TIME}\Z"): ("%d.%m.%Y",),
    re.compile(rf"\d{{1,2}}/\d{{1,2}}/\d{{4}}{TIME}\Z"): ("%d/%m/%Y", "%m/%d/%Y"),
    re.compile(rf"\d{{1,2}}-\d{{1,2}}-\d{{4}}{TIME}\Z"): ("%d-%m-%Y", "%m-%d-%Y"),
}
"""How dates are written, and what the parts may mean."""
ISO_DATE, ISO_TIME = "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"
PARTS = ("year", "month", "weekday", "days")
DAY = np.timedelta64(86_400_000_000, "us")


def parts_of(format: str) -> tuple[str, ...]:
    """What becomes of a date: ``days`` since 1970, the weekday from 0, Monday; hours if it says."""
    return (*PARTS, "hour") if "%H" in format else PARTS


def date_format(texts: Sequence[str]) -> str | None:
    """How all of ``texts`` write a date; None where one is no date.

    Raises ``ValueError`` naming both where day and month could be either.
    """
    if not texts:
        return None
    found = [ISO.match(text) for text in texts]
    if all(found):
        # Where all times are midnight, they are dates that some program wrote in full.
        clocks = [(match["time"] or "").strip("T 0:.,") for match in found if match]
        return ISO_TIME if any(clocks) else ISO_DATE
    for pattern, meanings in ORDERS.items():
        matches = [match for text in texts if (match := pattern.match(text))]
        if len(matches) < len(texts):
            continue
        timed = {len(match["time"] or "") > 0 for match in matches}
        if len(timed) > 1:
            return None
        time = ""
        if True in timed:
            separator = (matches[0]["time"] or " ")[0]
            time = f"{separator}%H:%M" + (":%S" if matches[0]["seconds"] else "")
        formats = [meaning + time for meaning in meanings]
        right = [f for f in formats if not np.isnat(parse_dates(texts, f)).any()]
        if len(right) > 1:
            raise ValueError(
                f"{texts[0]!r} may begin with its day or its month: say data.date_format="
                f"{right[0]} or {right[1]}"
            )
        return right[0] if right else None
    return None


def parse_dates(texts: Sequence[str], format: str) -> NDArray[np.datetime64]:
    """Points in time, (texts,) datetime64[us] of UTC; NaT where a text is none.

    Beside ``format`` the international way of writing is read.
    """
    import pandas as pd

    column = pd.Series(list(texts), dtype=object)
    if format in (ISO_DATE, ISO_TIME):
        return _instants(column, "ISO8601")
    found = _instants(column, format)
    absent = np.isnat(found)
    if absent.any():
        found[absent] = _instants(column[absent], "ISO8601")
    return found


def date_features(dates: NDArray[np.datetime64], format: str) -> NDArray[np.float64]:
    """The numbers of :func:`parts_of`, (dates, parts); NaN where there is no date."""
    import pandas as pd

    index = pd.DatetimeIndex(dates)
    days = (dates - np.datetime64("1970-01-01T00:00:00", "us")) / DAY
    columns = [index.year, index.month, index.day_of_week, days]
    if "%H" in format:
        columns.append(index.hour + index.minute / 60 + index.second / 3600)
    features = np.stack([np.asarray(column, np.float64) for column in columns], 1)
    features[np.isnat(dates)] = np.nan
    return features


def _instants(column: object, format: str) -> NDArray[np.datetime64]:
    import pandas as pd

    found = pd.to_datetime(column, format=format, errors="coerce", utc=True)
    return found.dt.tz_localize(None).to_numpy().astype("datetime64[us]").copy()
