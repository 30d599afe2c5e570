"""What one can ask of runs: ``model=lenet5``, ``optimizer.lr<0.1``, ``test.accuracy>0.9``."""

from __future__ import annotations

import fnmatch
import json
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dltrain.config.suggest import did_you_mean
from dltrain.errors import UserError
from dltrain.runs.folding import Row
from dltrain.runs.listing import SPLITS, Listed, mapping, number

CONDITION = re.compile(r"(?P<key>[\w./@-]+)\s*(?P<sign>!=|<=|>=|==|=|<|>)(?P<value>.*)", re.DOTALL)
ORDERED: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
OWN: dict[str, Callable[[Listed], Any]] = {
    "run": lambda run: str(run.path),
    "when": lambda run: run.when or None,
    "status": lambda run: run.status,
    "time": lambda run: run.seconds,
}
"""What is neither a key of the config nor a metric."""
COUNTS = ("epochs", "steps", "parameters", "best_step", "samples_per_second")
"""Of the summary, besides metrics."""


@dataclass(frozen=True)
class Condition:
    """``key=value`` and the like, as somebody typed it."""

    key: str
    sign: str
    value: str

    def holds(self, run: Listed) -> bool:
        """Whether it is true of ``run``; of a run without such a key it never is."""
        found = values(run, self.key)
        if self.sign in ORDERED:
            bound = _as_number(self.value)
            numbers = [n for n in map(number, found) if n is not None]
            return bound is not None and any(ORDERED[self.sign](n, bound) for n in numbers)
        same = any(_same(one, value) for one in found for value in _alternatives(self.value))
        return bool(found) and same != (self.sign == "!=")


def condition(typed: str) -> Condition:
    """``typed`` as a condition. Raises :class:`UserError` where it is none."""
    found = CONDITION.fullmatch(typed.strip())
    if found is None:
        raise UserError(f"--filter {typed}: write KEY=VALUE, such as model=lenet5; or !=, <, >.")
    sign, value = found["sign"].replace("==", "="), found["value"].strip().strip("'\"")
    if sign in ORDERED and _as_number(value) is None:
        raise UserError(f"--filter {typed}: {value or 'nothing'} is no number to compare with.")
    return Condition(found["key"], sign, value)


def values(run: Listed, key: str) -> list[Any]:
    """What ``run`` has of ``key``: nothing, one value, or a choice by all names it goes by."""
    if key in OWN:
        found = OWN[key](run)
        return [] if found is None else [found]
    if key in run.config:
        return [run.config[key]]
    if key in COUNTS:
        known = number(run.summary.get(key))
        return [] if known is None else [known]
    split, _, name = key.partition(".")
    for one, wanted in ((split, name), *((split, key) for split in SPLITS)):
        metric = run.metric(wanted, one) if one in SPLITS else None
        if metric is not None:
            return [metric]
    return run.chosen(key) if any(k.startswith(f"{key}.") for k in run.config) else []


def known_keys(runs: Iterable[Listed]) -> list[str]:
    """All that may be asked of some of ``runs``."""
    keys: dict[str, None] = dict.fromkeys((*OWN, *COUNTS))
    for run in runs:
        keys |= dict.fromkeys(run.config)
        keys |= dict.fromkeys(key.partition(".")[0] for key in run.config)
        keys |= dict.fromkeys(run.metrics)
        keys |= dict.fromkeys(f"{s}.{name}" for s in SPLITS for name in mapping(run.summary.get(s)))
    return list(keys)


def require_known(option: str, key: str, runs: Sequence[Listed]) -> None:
    """Raise :class:`UserError` where none of ``runs`` has ``key``, and there are some."""
    if any(values(run, key) for run in runs) or not any(run.config for run in runs):
        return
    names = known_keys(runs)
    if key in names:  # null, or of a run that has told nothing yet
        return
    hint = did_you_mean(key, names) or "Give a key of the config or a metric."
    raise UserError(f"{option} {key}: no run has such a key. {hint}")


def ordered(rows: Sequence[Row], key: str, reverse: bool) -> list[Row]:
    """``rows`` by ``key``: metrics the best first, times and numbers from the least, text from a.

    Those without such a key are last in any case.
    """
    with_value = [(value, row) for row in rows if (value := _sorting(row, key)) is not None]
    highest_first = _better(rows, key) == "max" or key == "when"
    with_value.sort(key=operator.itemgetter(0), reverse=highest_first != reverse)
    return [row for _, row in with_value] + [r for r in rows if _sorting(r, key) is None]


def _better(rows: Iterable[Row], key: str) -> str:
    """Which way the metric ``key`` is better, as the runs say; older ones do not."""
    name = key.partition(".")[2] if key.partition(".")[0] in SPLITS else key
    said = (mapping(row.first.summary.get("better")).get(name) for row in rows)
    return next((mode for mode in said if mode in ("min", "max")), "")


def _sorting(row: Row, key: str) -> tuple[int, float, str] | None:
    """What ``row`` is put in its place by: numbers before text."""
    split, _, name = key.partition(".")
    metric = row.value(name, split) if split in SPLITS else row.value(key)
    if metric is not None and key not in row.first.config:
        return (0, metric.mean, "")
    found = [row.seconds] if key == "time" else values(row.first, key)
    if not found or found[0] is None:
        return None
    known = number(found[0])
    return (1, 0.0, as_text(found[0])) if known is None else (0, known, "")


def as_text(value: Any) -> str:
    """A value of a config as one types it, in few letters."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str).replace('"', "")
    except (ValueError, RecursionError):
        return str(type(value).__name__)


def in_short(key: str, value: Any) -> tuple[str, str]:
    """A key and its value to be read: a class by its name, under the key of what it makes."""
    if key.endswith("._target_") and isinstance(value, str):
        return key.removesuffix("._target_"), value.rpartition(".")[2]
    return key, as_text(value)


def _same(found: Any, typed: str) -> bool:
    known, wanted = number(found), _as_number(typed)
    if known is not None and wanted is not None:
        return known == wanted
    one, other = (re.sub(r"[\s_]", "", text).lower() for text in (as_text(found), typed))
    return one == other or fnmatch.fnmatchcase(one, other)


def _alternatives(typed: str) -> list[str]:
    """The values of ``a,b``, any of which may be; a list in brackets is one value."""
    return [typed] if typed.startswith("[") else [one.strip() for one in typed.split(",")]


def _as_number(text: str) -> float | None:
    try:
        return number(float(text))
    except ValueError:
        return None
