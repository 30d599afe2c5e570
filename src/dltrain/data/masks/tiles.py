"""Large images cut into tiles that overlap, of whose pixels each belongs to one tile."""

from __future__ import annotations

from typing import NamedTuple

from dltrain.contracts.tiles import spans


class Tile(NamedTuple):
    """A box of an image, and the box within it whose pixels are its own; ends excluded."""

    top: int
    left: int
    bottom: int
    right: int
    own_top: int
    own_left: int
    own_bottom: int
    own_right: int


def tiles_of(height: int, width: int, side: int | None, overlap: int) -> list[Tile]:
    """The tiles of an image, row by row, at most ``side`` pixels each way; null: all of it.

    Neighbors share at least ``overlap`` pixels, half of which belong to either.
    """
    rows, columns = (spans(length, side, overlap) for length in (height, width))
    return [
        Tile(top, left, bottom, right, own_top, own_left, own_bottom, own_right)
        for top, bottom, own_top, own_bottom in rows
        for left, right, own_left, own_right in columns
    ]
