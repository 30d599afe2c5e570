"""Examples in files that are read a piece at a time, and which split each of them is of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dltrain.data.streams.hashes import Hashes, hashes_of, joined

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 1 << 20
"""Bytes of examples that are read at once."""
ROWS = 1 << 13
"""Examples at most."""
SPREAD = 16
"""Times as many examples as are wanted, which the pieces have that they are taken from."""


@dataclass(frozen=True)
class Piece:
    """``rows`` examples that lie together in shard number ``shard``, from its row ``first`` on.

    ``number`` is that of the piece in its shard, ``size`` about how many bytes it has.
    """

    shard: int
    number: int
    first: int
    rows: int
    size: int


class Shards(ABC):
    """Files of examples that have the same columns."""

    names: Sequence[str]
    """What each shard is called; a hash of it is part of how its examples are split."""
    pieces: Sequence[Piece]
    image: str = ""
    """The column of images, where there is one."""
    label: str | None = None
    """The column of their labels."""
    class_names: Sequence[str] = ()
    """What the labels 0, 1, … are called, where the files say so."""

    @abstractmethod
    def read(self, piece: Piece, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows of a piece in order, some at a time."""

    @abstractmethod
    def digest(self) -> str:
        """What tells these examples from others, without reading all of them."""

    def place(self, shard: int, row: int) -> str:
        """What to call an example in a message."""
        return f"{self.names[shard]}, row {row + 1}"

    @property
    def rows(self) -> int:
        """How many examples there are."""
        return sum(piece.rows for piece in self.pieces)

    @property
    def row_size(self) -> int:
        """About how many bytes an example has."""
        return max(1, sum(piece.size for piece in self.pieces) // max(1, self.rows))

    @property
    def held(self) -> int:
        """About how many bytes are held of a piece while it is read."""
        return min(self.chunk * self.row_size, max(piece.size for piece in self.pieces))

    @property
    def chunk(self) -> int:
        """How many rows are read at once."""
        return max(1, min(ROWS, CHUNK // self.row_size))


def names_of(files: Sequence[Path]) -> list[str]:
    """What to call each of ``files``: its path from the folder that all of them are in."""
    place = commonpath([file.absolute().parent for file in files])
    return [file.absolute().relative_to(place).as_posix() for file in files]


@dataclass(frozen=True)
class Between:
    """Which rows are of a split: those whose hash, by ``salt``, is from ``low`` to below ``high``.

    Hashes are of the shard's name and of the row in it, as fractions of their range: a shard that
    is added moves no example of another one to another split.
    """

    low: float = 0.0
    high: float = 1.0
    salt: int = 0

    @property
    def all(self) -> bool:
        """Whether these are all rows."""
        return self.low <= 0 and self.high >= 1

    def __call__(self, name: str, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each of a shard's ``rows`` is."""
        if self.all:
            return np.ones(len(rows), np.bool_)
        fractions = _hashes(name, self.salt, rows) / 2.0**64
        return np.asarray((fractions >= self.low) & (fractions < self.high))


def _hashes(name: str, salt: int, rows: NDArray[np.int64]) -> Hashes:
    text = torch.tensor(list(f"{salt}/{name}".encode()), dtype=torch.uint8)
    of_name = hashes_of(torch.cat([text, text.new_zeros(-len(text) % 8)])[None])
    return joined({"name": of_name.repeat(len(rows)), "row": hashes_of(torch.from_numpy(rows))})


@dataclass(frozen=True)
class Part:
    """The examples of a split: those of ``shards`` that are in all of ``within``.

    At most ``limit`` of them, drawn by ``seed``: as large a fraction of each of some pieces, whose
    first ones may all be of one class.
    """

    shards: Shards
    within: Sequence[Between] = ()
    limit: int | None = None
    seed: int = 0

    def members(self, piece: Piece) -> NDArray[np.bool_]:
        """Whether each row of a piece is of the split."""
        rows = np.arange(piece.first, piece.first + piece.rows)
        found = np.ones(piece.rows, np.bool_)
        for between in self.within:
            if not between.all:
                found &= between(self.shards.names[piece.shard], rows)
        return found

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How many examples each piece has of it."""
        pieces = self.shards.pieces
        if all(between.all for between in self.within):
            found = np.array([piece.rows for piece in pieces], np.int64)
        else:
            found = np.array([self.members(piece).sum() for piece in pieces], np.int64)
        if self.limit is None or self.limit >= found.sum():
            return found
        generator = torch.Generator().manual_seed(self.seed)
        drawn = torch.randperm(len(found), generator=generator).numpy()
        drawn = drawn[found[drawn].cumsum() - found[drawn] < SPREAD * self.limit]
        exact = found[drawn] * (self.limit / found[drawn].sum())
        limited = np.zeros_like(found)
        limited[drawn] = np.floor(exact)
        left = self.limit - int(limited.sum())
        limited[drawn[np.argsort(np.floor(exact) - exact, kind="stable")[:left]]] += 1
        return limited

    def chosen(self, number: int) -> NDArray[np.bool_]:
        """Whether each row of a piece is among them."""
        piece = self.shards.pieces[number]
        found = self.members(piece)
        own, count = np.flatnonzero(found), int(self.counts[number])
        if count < len(own):
            name, salt = self.shards.names[piece.shard], -1 - self.seed
            drawn = np.argsort(_hashes(name, salt, piece.first + own), kind="stable")
            found[own[drawn[count:]]] = False
        return found

    def read(self, number: int, columns: Sequence[str]) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        """Of piece ``number`` the examples of the split, and their rows in the shard."""
        import pyarrow as pa

        piece = self.shards.pieces[number]
        members, done = self.chosen(number), 0
        for batch in self.shards.read(piece, columns):
            own = members[done : done + len(batch)]
            rows = piece.first + done + np.flatnonzero(own)
            done += len(batch)
            if len(rows):
                yield (batch if own.all() else batch.filter(pa.array(own))), rows

    def located(self, position: int) -> str:
        """What to call the example at ``position`` in the split, in a message."""
        ends = self.counts.cumsum()
        number = int(ends.searchsorted(position, side="right"))
        piece = self.shards.pieces[number]
        nth = position - int(ends[number] - self.counts[number])
        row = piece.first + int(np.flatnonzero(self.chosen(number))[nth])
        return self.shards.place(piece.shard, row)
