"""New pairs of a user and an item, and users who are to be recommended something."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import Batch, Reader
from dltrain.data.streams.reader import several
from dltrain.data.tables.one_by_one import is_frame, rows_of
from dltrain.files import open_within, read_within

logger = logging.getLogger(__name__)

KNOWN = "known_items.npy"


class RatingReader(Reader):
    """Reads pairs as mappings with the columns ``user`` and ``item``, or as two cells.

    ``users`` and ``items`` are the names by number, from 1 on; 0 is one that training did not
    have. ``titles`` are what items are called, as many, or none. ``known`` (pairs, 2) are a user's
    number and an item's each: what users have rated already, in training or validation.
    """

    example = "pair"

    def __init__(
        self,
        user: str,
        item: str,
        users: Sequence[str],
        items: Sequence[str],
        titles: Sequence[str] = (),
        known: np.ndarray[Any, Any] | None = None,
    ) -> None:
        if titles and len(titles) != len(items):
            raise ValueError(f"titles are {len(titles)}, and items {len(items)}")
        self.columns = [user, item]
        self.users, self.items, self.titles = list(users), list(items), list(titles)
        self._known = np.zeros((0, 2), np.int64) if known is None else known
        self._numbers = [
            {name: number for number, name in enumerate(names, 1)} for names in (users, items)
        ]

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """The rows of a table: a file that names its columns, or a frame."""
        for one in inputs:
            if isinstance(one, (str, Path)) or hasattr(one, "readline") or is_frame(one):
                yield from rows_of(one)
            else:
                yield one

    def read(self, examples: Sequence[Any]) -> Batch:
        """Numbers (batch,) of ``user`` and ``item``; who is new is told, and has number 0."""
        found: Batch = {}
        cells = [self._pair(number, one) for number, one in enumerate(several(examples))]
        for name, numbers, column in zip(
            ("user", "item"), self._numbers, zip(*cells, strict=True), strict=True
        ):
            ids = [numbers.get(cell, 0) for cell in column]
            new = sum(number == 0 for number in ids)
            if new:
                what = "a user" if name == "user" else "an item"
                logger.warning(
                    "%d of %d pairs have %s that training did not have: what is known of the other "
                    "decides.",
                    *(new, len(ids), what),
                )
            found[name] = torch.tensor(ids)
        return found

    def user(self, name: str) -> int:
        """The number of a user; 0 for one that training did not have, who is told of."""
        found = self._numbers[0].get(name, 0)
        if not found:
            logger.warning(
                "%s",
                f"{self.columns[0]} {name!r} is nobody that training had: these are best for "
                f"anyone. {did_you_mean(name, self.users)}".rstrip(),
            )
        return found

    def known(self, user: int) -> list[int]:
        """The numbers of the items that a user has rated already."""
        found: list[int] = self._known[self._known[:, 0] == user, 1].tolist()
        return found

    def titled(self, items: Sequence[int]) -> list[str]:
        """What items are called, by their numbers; empty where no file has named any."""
        return [self.titles[item - 1] for item in items] if self.titles else []

    def node(self, folder: Path) -> dict[str, Any]:
        """Write what users have rated as ``known_items.npy``."""
        with open_within(folder, KNOWN, "wb") as file:
            np.save(file, self._known.astype(np.int32), allow_pickle=False)
        names = {"users": self.users, "items": self.items, "titles": self.titles}
        user, item = self.columns
        return {"_target_": f"{__name__}.RunReader", "user": user, "item": item, **names}

    def _pair(self, number: int, example: Any) -> tuple[str, str]:
        if isinstance(example, Mapping):
            for name in self.columns:
                if name not in example:
                    hint = did_you_mean(name, list(map(str, example)))
                    raise ValueError(
                        f"example {number} has no column {name!r}. {hint} It needs "
                        f"{', '.join(self.columns)}.".replace("  ", " ")
                    )
            example = [example[name] for name in self.columns]
        if isinstance(example, str) or np.shape(example) != (2,):
            raise ValueError(
                f"example {number} is no pair of {' and '.join(self.columns)}; got {example!r}"
            )
        user, item = (str(cell).strip() for cell in example)
        if not user or not item:
            raise ValueError(f"example {number} has an empty {self.columns[bool(user)]!r}")
        return user, item


class RunReader(RatingReader):
    """Reads pairs by the names, and by what users have rated, that a run's ``folder`` keeps."""

    def __init__(
        self,
        folder: Path,
        user: str,
        item: str,
        users: Sequence[str],
        items: Sequence[str],
        titles: Sequence[str] = (),
    ) -> None:
        super().__init__(user, item, users, items, titles, _known(read_within(folder, KNOWN)))


def _known(content: bytes) -> np.ndarray[Any, Any]:
    """Pairs of numbers, of a file that may be a stranger's."""
    try:
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, MemoryError) as error:
        raise ValueError(f"{KNOWN} is no .npy file of numbers that is whole") from error
    if found.ndim != 2 or found.shape[1] != 2 or found.dtype.kind != "i":
        raise ValueError(f"{KNOWN} has no pairs of whole numbers")
    return np.asarray(found)
