"""What a run folder has of results: curves, and one line for each test example. No torch here."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dltrain.runs.listing import Unreadable, mapping, read_text

METRICS, EXAMPLES, DATA = "metrics.csv", "tables/test_examples.csv", "data.json"
LARGEST = 1 << 28
"""Bytes of a table that is read here."""

Curve = list[tuple[float, float]]
"""Points of epoch and value; of step and value where a run has no epochs."""


def curves(run: Path) -> dict[str, dict[str, Curve]]:
    """By metric and split, ``train`` and ``validation``, what a run has logged; finite alone.

    Raises :class:`Unreadable` where ``metrics.csv`` is none.
    """
    found: dict[str, dict[str, Curve]] = {}
    for row in _rows(run, METRICS):
        split, name = row.get("split"), row.get("name")
        if split not in ("train", "validation") or not name:
            continue
        place, value = _number(row.get("epoch") or row.get("step")), _number(row.get("value"))
        if place is not None and value is not None:
            found.setdefault(name, {}).setdefault(split, []).append((place, value))
    return found


def per_example(run: Path) -> dict[str, list[float]]:
    """By metric, the value of each test example. Raises :class:`Unreadable` where there is none."""
    if not (run / EXAMPLES).exists():
        raise Unreadable(f"it has no {EXAMPLES}, which not all tasks and versions write")
    columns: dict[str, list[float]] = {}
    for row in _rows(run, EXAMPLES):
        for name, text in row.items():
            value = _number(text)
            if value is None:
                raise Unreadable(f"{EXAMPLES} has a value that is no number")
            columns.setdefault(name, []).append(value)
    if len(set(map(len, columns.values()))) != 1:
        raise Unreadable(f"{EXAMPLES} is no table")
    return columns


def identity_of_test(run: Path) -> Mapping[str, Any]:
    """What tells a run's test split from others: examples and digest; nothing where unknown."""
    try:
        data = json.loads(read_text(run, DATA))
    except (Unreadable, ValueError, RecursionError):
        return {}
    return mapping(mapping(mapping(mapping(data).get("identity")).get("splits")).get("test"))


def _rows(run: Path, name: str) -> Iterator[dict[str, str]]:
    lines = read_text(run, name, LARGEST).splitlines()
    try:
        for row in csv.DictReader(lines):
            if None in row or None in row.values():
                raise Unreadable(f"{name} has lines of different lengths")
            yield row
    except csv.Error as error:
        raise Unreadable(f"{name}: {error}") from error


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None
