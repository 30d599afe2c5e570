"""Where a long side is cut into spans that overlap."""

from __future__ import annotations


def spans(length: int, side: int | None, overlap: int) -> list[tuple[int, int, int, int]]:
    """Where each span begins and ends, and from where to where it is the only owner.

    They are ``side`` long, or all there is (null, or a shorter ``length``), and share at least
    ``overlap``; half of what two share belongs to either.
    """
    if side is None or length <= side:
        return [(0, length, 0, length)]
    count = -(-(length - overlap) // (side - overlap))
    starts = [round(place * (length - side) / (count - 1)) for place in range(count)]
    found = []
    for place, start in enumerate(starts):
        first = 0 if place == 0 else (start + starts[place - 1] + side) // 2
        last = length if place == count - 1 else (starts[place + 1] + start + side) // 2
        found.append((start, start + side, first, last))
    return found
