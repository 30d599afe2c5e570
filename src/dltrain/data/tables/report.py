"""What was read of a table, column by column: in the run's first words, and in its folder."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from dltrain.data.tables.parse import Numbers, Texts

logger = logging.getLogger(__name__)

SHOWN = 10
"""Columns, classes or levels that a line names."""
PLURAL = {"number": "numbers", "category": "categories", "date": "dates"}
PLURAL["true or false"] = "true or false"
FEW = 10
"""In so few rows every value may differ by chance."""


class Report:
    """``lines`` has one for each column: how it is used, as what, and what is in it."""

    def __init__(self, name: str, rows: int) -> None:
        self._name, self._rows = name, rows
        self.lines: list[Mapping[str, Any]] = []

    def columns(
        self,
        target: str,
        found: Mapping[str, Numbers | Texts],
        types: Mapping[str, str],
    ) -> None:
        """Describe the features and the target, and doubt what is likely no feature."""
        for name, column in found.items():
            use = "target" if name == target else "feature"
            self.lines.append(_line(name, use, types[name], column))
            if name == target or types[name].startswith("date"):
                continue
            if _are_dates(column):
                logger.warning(
                    "%s: the numbers of %r look like dates, of which data.date_format=%%Y%%m%%d "
                    "makes year, month, weekday and days.",
                    *(self._name, name),
                )
            elif len(found) > 2 and _identifies(column):
                logger.warning(
                    "%s: every value of %r differs. If these are identifiers, leave them out: "
                    "data.exclude=[%s].",
                    *(self._name, name, name),
                )
        self._say(target, found, types)

    def left_out(self, reasons: Mapping[str, str]) -> None:
        """Name the columns that are no features, each with the reason."""
        for name, why in reasons.items():
            self.lines.append({"column": name, "use": "left out", "type": why})
        unasked = [
            f"{n!r}: {why}" for n, why in reasons.items() if not why.startswith(("data.", "not in"))
        ]
        if unasked:
            logger.warning("%s: left out: %s.", self._name, _some(unasked))

    def _say(
        self, target: str, found: Mapping[str, Numbers | Texts], types: Mapping[str, str]
    ) -> None:
        kinds = Counter(types[name].partition(" (")[0] for name in found if name != target)
        described = []
        for kind, count in kinds.items():
            names = [n for n in found if n != target and types[n].partition(" (")[0] == kind]
            if kind == "category":
                names = [f"{name}: {len(_levels(found[name]))} levels" for name in names]
            described.append(f"{count} {PLURAL[kind] if count > 1 else kind} ({_some(names)})")
        logger.info(
            "%s: %s rows; features: %s.",
            *(self._name, f"{self._rows:,}", "; ".join(described) or "none"),
        )
        column = found[target]
        if isinstance(column, Texts):
            counts = Counter(column.counts())
            shown = [f"{name} {count:,}" for name, count in counts.most_common()]
            logger.info("target %r: %d classes: %s.", target, len(counts), _some(shown))
        else:
            line = _line(target, "target", "", column)
            logger.info(
                "target %r: numbers from %s to %s, mean %s.",
                *(target, line.get("min"), line.get("max"), line.get("mean")),
            )


def _line(name: str, use: str, kind: str, column: Numbers | Texts) -> Mapping[str, Any]:
    line: dict[str, Any] = {"column": name, "use": use, "type": kind}
    line["missing"] = int(column.missing.sum())
    if isinstance(column, Numbers):
        known = column.values[~column.missing]
        if len(known):
            low, high, mean = known.min(), known.max(), known.mean()
            line |= {"min": f"{low:.10g}", "max": f"{high:.10g}", "mean": f"{mean:.10g}"}
        return line
    counts = Counter(column.counts())
    shown = [f"{level}: {count}" for level, count in counts.most_common(SHOWN)]
    rest = len(counts) - len(shown)
    line |= {"levels": len(counts), "most": "; ".join(shown) + (f"; {rest} more" if rest else "")}
    return line


def _levels(column: Numbers | Texts) -> list[str]:
    return column.levels if isinstance(column, Texts) else []


def _are_dates(column: Numbers | Texts) -> bool:
    """Whether all are whole numbers such as 20240131."""
    if not isinstance(column, Numbers) or column.missing.all():
        return False
    known = column.values[~column.missing]
    if known.min() < 19000101 or known.max() > 21001231 or (known % 1).any():
        return False
    month, day = known // 100 % 100, known % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _identifies(column: Numbers | Texts) -> bool:
    """Whether every row has another text, or another whole number."""
    count = len(column.missing)
    if count < FEW or column.missing.any():
        return False
    if isinstance(column, Texts):
        return len(column.levels) == count
    whole = bool((column.values[:FEW] % 1 == 0).all()) and bool((column.values % 1 == 0).all())
    return whole and len(np.unique(column.values)) == count


def _some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")
