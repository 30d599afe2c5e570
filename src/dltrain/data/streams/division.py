"""Which training rows are trained on, and which are set aside to validate on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dltrain.errors import UserError

logger = logging.getLogger(__name__)

TEST_SEED = 0
"""Draws every test split that the data does not bring: the same rows, whatever the run's seed."""


class Division:
    """Draws rows alike likely, whatever is in them.

    Rows (n,) are positions in the training split; what is to be taken first stands first.
    """

    def order(self, count: int, seed: int) -> Tensor:
        """All ``count`` rows, in the order in which they are taken."""
        return torch.randperm(count, generator=torch.Generator().manual_seed(seed))

    def limited(self, rows: Tensor, number: int) -> Tensor:
        """``number`` of the rows, to do with these alone."""
        return rows[:number]

    def aside(self, rows: Tensor, number: int) -> Tensor:
        """About ``number`` of the rows, to set them aside."""
        return rows[:number]

    def deal(self, rows: Tensor, folds: int) -> Tensor:
        """The fold (n,) of each row, from 0."""
        return torch.arange(len(rows)) % folds


class Stratified(Division):
    """Each of ``classes`` (all rows,) has the same fraction of its rows in every part.

    As near as whole rows allow, by the largest remainders. A class's last row is never set aside.
    """

    def __init__(self, classes: Tensor) -> None:
        self._classes = classes

    def limited(self, rows: Tensor, number: int) -> Tensor:
        """Of every class at least one row, where ``number`` allows it."""
        groups = self._groups(rows)
        least = int(number >= len(groups))
        return self._first(rows, groups, number, [(least, len(group)) for group in groups])

    def aside(self, rows: Tensor, number: int) -> Tensor:
        """Fewer, and a note, where ``number`` would leave a class without any."""
        groups = self._groups(rows)
        spare = len(rows) - len(groups)
        if number > spare:
            logger.warning(
                "%d of %d examples are set aside for validation, not %d: each of %d classes keeps "
                "one to train on.",
                *(spare, len(rows), number, len(groups)),
            )
            number = spare
        return self._first(rows, groups, number, [(0, len(group) - 1) for group in groups])

    def deal(self, rows: Tensor, folds: int) -> Tensor:
        """Folds are of one size, and have as many of each class, but for one row."""
        by_class = self._classes[rows].sort(stable=True).indices
        found = torch.empty(len(rows), dtype=torch.long)
        found[by_class] = super().deal(rows, folds)
        return found

    def _groups(self, rows: Tensor) -> list[Tensor]:
        """Positions in ``rows`` of each class that is there."""
        classes = self._classes[rows]
        return [(classes == one).nonzero()[:, 0] for one in classes.unique()]

    def _first(
        self, rows: Tensor, groups: Sequence[Tensor], number: int, bounds: Sequence[tuple[int, int]]
    ) -> Tensor:
        counts = apportioned([len(group) for group in groups], number, bounds)
        taken = [group[:count] for group, count in zip(groups, counts, strict=True)]
        return rows[torch.cat(taken).sort().values]


class Grouped(Division):
    """Rows of one of ``groups`` (all rows,) are never in two parts; groups are drawn."""

    def __init__(self, groups: Tensor) -> None:
        self._groups = groups.unique(return_inverse=True)[1]

    def order(self, count: int, seed: int) -> Tensor:
        """Group after group."""
        turns = super().order(int(self._groups.max()) + 1, seed)
        return turns[self._groups].sort(stable=True).indices

    def aside(self, rows: Tensor, number: int) -> Tensor:
        """Each group that brings the number of rows nearer to ``number``; at least one of them.

        Raises :class:`UserError` where there is but one.
        """
        sizes = self._sizes(rows)
        if len(sizes) < 2:
            raise UserError("data.group: all rows are of one group, and it cannot be divided.")
        chosen, total = torch.zeros(len(sizes), dtype=torch.bool), 0
        for group, size in enumerate(sizes.tolist()[:-1]):  # the last is left
            if abs(total + size - number) < abs(total - number):
                chosen[group], total = True, total + size
        if not total and number:
            chosen[sizes.argmin()] = True
        return rows[chosen.repeat_interleave(sizes)]

    def deal(self, rows: Tensor, folds: int) -> Tensor:
        """The largest group first, each to the fold with the fewest rows.

        Raises :class:`UserError` where there are fewer groups than folds.
        """
        sizes = self._sizes(rows)
        if len(sizes) < folds:
            raise UserError(f"data.folds is {folds}, but there are {len(sizes)} groups of rows.")
        totals, chosen = [0] * folds, [0] * len(sizes)
        for group in sizes.argsort(descending=True, stable=True).tolist():
            chosen[group] = totals.index(min(totals))
            totals[chosen[group]] += int(sizes[group])
        return torch.tensor(chosen).repeat_interleave(sizes)

    def _sizes(self, rows: Tensor) -> Tensor:
        return self._groups[rows].unique_consecutive(return_counts=True)[1]


class Ordered(Division):
    """Rows lie in the order of time: the last are set aside, and a limit keeps the last."""

    def order(self, count: int, seed: int) -> Tensor:
        """From the last to the first, whatever the seed."""
        return torch.arange(count).flip(0)

    def deal(self, rows: Tensor, folds: int) -> Tensor:
        """Raises :class:`UserError`: training rows would be later than those set aside."""
        raise UserError("data.folds: rows that data.order puts in order are not dealt to folds.")


@dataclass(frozen=True)
class Wanted:
    """How many rows are to be set aside.

    ``validation`` is a fraction (below 1) or a number of those that ``limit`` leaves; instead of
    it, the rows of number ``fold`` of as many ``folds`` may be.
    """

    validation: float
    limit: int | None = None
    folds: int | None = None
    fold: int = 0


def hold_out(
    count: int, division: Division, wanted: Wanted, seed: int
) -> tuple[Tensor | None, Tensor | None]:
    """Which of ``count`` training rows to train on (None: all), and which to set aside.

    Raises :class:`UserError` where that leaves none to train on.
    """
    kept = count if wanted.limit is None else wanted.limit
    if kept > count:
        raise UserError(f"data.limit is {kept}, but the training split has {count} examples.")
    number = _number(wanted, kept)
    if kept == count and not number:
        return None, None
    rows = division.order(count, seed)
    if kept < count:
        rows = division.limited(rows, kept)
    if wanted.folds is None:
        held_out = division.aside(rows, number)
    else:
        held_out = rows[division.deal(rows, wanted.folds) == wanted.fold]
    # Sorted: the split is what the seed decides, the order of an epoch is drawn later.
    left = rows[~torch.isin(rows, held_out)].sort().values
    return left, held_out.sort().values if len(held_out) else None


def _number(wanted: Wanted, kept: int) -> int:
    """Rows to set aside of those ``kept``."""
    if wanted.folds is not None:
        if wanted.folds > kept:
            raise UserError(f"data.folds is {wanted.folds}, but there are {kept} examples.")
        return -(-kept // wanted.folds)
    validation = wanted.validation
    number = round(validation * kept) if validation < 1 else int(validation)
    if number >= kept:
        raise UserError(
            f"data.validation sets {number} of {kept} examples aside, which leaves none to "
            "train on; data.validation=0.1 sets a tenth aside, however many there are."
        )
    return number


def apportioned(sizes: Sequence[int], total: int, bounds: Sequence[tuple[int, int]]) -> list[int]:
    """Parts of ``total`` in proportion to ``sizes``, by the largest remainders.

    Each is within its bounds, the least and the most, which allow ``total``. Of equal remainders
    the first is the larger.
    """
    exact = [total * size / sum(sizes) for size in sizes]
    counts = [min(max(int(e), low), high) for e, (low, high) in zip(exact, bounds, strict=True)]
    while (missing := total - sum(counts)) != 0:
        step = 1 if missing > 0 else -1
        open_ones = [
            place
            for place, (low, high) in enumerate(bounds)
            if (counts[place] < high if step > 0 else counts[place] > low)
        ]
        place = max(open_ones, key=lambda one: step * (exact[one] - counts[one]))
        counts[place] += step
    return counts


def hold_out_test(targets: Tensor, fraction: float) -> tuple[Tensor, Tensor]:
    """Draw a test split of about ``fraction`` of the rows; return the rows left, and its own.

    Where ``targets`` (rows,) are classes (integers), each gives its fraction, rounded, but never
    its last training example.
    """
    groups = torch.zeros(len(targets)) if targets.is_floating_point() else targets
    generator = torch.Generator().manual_seed(TEST_SEED)
    test = torch.zeros(len(targets), dtype=torch.bool)
    for group in groups.unique():
        members = (groups == group).nonzero()[:, 0]
        count = min(round(fraction * len(members)), len(members) - 1)
        test[members[torch.randperm(len(members), generator=generator)[:count]]] = True
    return (~test).nonzero()[:, 0], test.nonzero()[:, 0]
