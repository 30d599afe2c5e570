"""Curves in a terminal, or in a pipe: a letter for each, so that no colors are needed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from dltrain.commands.tables import amount

HEIGHT = 15
SEVERAL = "*"
"""Where curves meet."""


def chart(curves: Mapping[str, Sequence[tuple[float, float]]], width: int) -> Iterator[str]:
    """Lines of at most ``width`` letters: each curve, of points (x, y), drawn by its letter.

    ``curves`` are by that letter; all are drawn to one scale, points joined by straight lines.
    """
    points = [point for curve in curves.values() for point in curve]
    if not points:
        return
    (left, right), (low, high) = (_range([p[axis] for p in points]) for axis in (0, 1))
    labels = [amount(high), amount((low + high) / 2), amount(low)]
    margin = max(map(len, labels)) + 1
    across = max(10, width - margin - 1)
    cells: list[list[str]] = [[" "] * across for _ in range(HEIGHT)]
    for letter, curve in curves.items():
        for column, value in _traced(curve, left, right, across):
            row = round((high - value) / (high - low) * (HEIGHT - 1))
            taken = cells[row][column]
            cells[row][column] = letter if taken in (" ", letter) else SEVERAL
    named = dict(zip((0, (HEIGHT - 1) // 2, HEIGHT - 1), labels, strict=True))
    for row, line in enumerate(cells):
        yield f"{named.get(row, ''):>{margin - 1}} |{''.join(line)}".rstrip()
    yield f"{'':>{margin}}+{'-' * across}"
    ends = f"{left:g}", f"{right:g}"
    yield f"{'':>{margin + 1}}{ends[0]}{ends[1]:>{across - len(ends[0])}}"


def _traced(
    curve: Sequence[tuple[float, float]], left: float, right: float, across: int
) -> Iterator[tuple[int, float]]:
    """A value for each column that the curve goes through."""
    places = [((x - left) / (right - left) * (across - 1), y) for x, y in sorted(curve)]
    yield from ((round(x), y) for x, y in places)
    for (x0, y0), (x1, y1) in pairwise(places):
        for column in range(round(x0) + 1, round(x1)):
            yield column, y0 + (y1 - y0) * (column - x0) / (x1 - x0)


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the greatest; of a single value, some way around it."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
