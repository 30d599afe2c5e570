"""Ratings in memory: what was read, before users and items have numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interactions:
    """Rows of the file ``name``: each user and item is that of its code in ``…_names``.

    ``values`` and ``times`` (rows,) are None where the file has none. ``rows`` says which of the
    file's each is, and ``locate`` where that stands.
    """

    name: str
    users: NDArray[np.int32]
    user_names: list[str]
    items: NDArray[np.int32]
    item_names: list[str]
    values: NDArray[np.float64] | None
    times: NDArray[np.float64] | None
    rows: NDArray[np.int64]
    locate: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.users)

    @property
    def pairs(self) -> NDArray[np.int64]:
        """A number (rows,) for each pair of a user and an item."""
        return self.users.astype(np.int64) * len(self.item_names) + self.items

    def only(self, kept: NDArray[np.generic]) -> Interactions:
        """Those rows that a mask keeps, or in the order of row numbers."""
        return replace(
            self,
            users=self.users[kept],
            items=self.items[kept],
            values=None if self.values is None else self.values[kept],
            times=None if self.times is None else self.times[kept],
            rows=self.rows[kept],
        )

    def place(self, row: int) -> str:
        """Where a row stands in the file, such as ``line 12``."""
        return self.locate(int(self.rows[row]))

    def coded_as(self, user_names: Sequence[str], item_names: Sequence[str]) -> Interactions:
        """The same by other lists of names, which have all of its own."""
        return replace(
            self,
            users=_recoded(self.users, self.user_names, user_names),
            user_names=list(user_names),
            items=_recoded(self.items, self.item_names, item_names),
            item_names=list(item_names),
        )


def _recoded(
    codes: NDArray[np.int32], names: Sequence[str], others: Sequence[str]
) -> NDArray[np.int32]:
    index = {name: place for place, name in enumerate(others)}
    return np.array([index[name] for name in names], np.int32)[codes]


def together(parts: Sequence[Interactions]) -> list[Interactions]:
    """The same parts, by one list of users and one of items."""
    users = list(dict.fromkeys(name for part in parts for name in part.user_names))
    items = list(dict.fromkeys(name for part in parts for name in part.item_names))
    return [part.coded_as(users, items) for part in parts]
