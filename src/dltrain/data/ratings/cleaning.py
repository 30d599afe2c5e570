"""What of the ratings is used: pairs that stand there twice, values that are none, likes alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from dltrain.data.ratings.interactions import Interactions

logger = logging.getLogger(__name__)

Duplicates = Literal["refuse", "last", "first", "mean", "keep"]


def without_duplicates(found: Interactions, how: Duplicates) -> Interactions:
    """One row a pair: the last, or first, by time or else as they stand; or the mean of them.

    Raises ``ValueError`` naming the first that stands there twice, where ``how`` is refuse.
    """
    pairs = found.pairs
    if how == "keep":
        return found
    order = np.lexsort((np.arange(len(found)), _times(found), pairs))
    new = np.append(True, np.diff(pairs[order]) != 0)
    if new.all():
        return found
    count = len(found) - int(new.sum())
    repeated = np.ones(len(found), bool)
    repeated[np.unique(pairs, return_index=True)[1]] = False
    second = int(repeated.argmax())
    first = int((pairs == pairs[second]).argmax())
    told = (
        f"{count:,} of {len(found):,} rows are of a user and an item that stand there before, such "
        f"as {found.place(first)} and {found.place(second)} "
        f"({found.user_names[found.users[first]]}, {found.item_names[found.items[first]]})"
    )
    if how == "refuse":
        raise ValueError(
            f"{found.name}: {told}; data.duplicates=last keeps the last of them, mean their mean"
        )
    chosen = order[new] if how in ("first", "mean") else order[np.append(new[1:], True)]
    if how == "mean" and found.values is not None:
        group = new.cumsum() - 1
        sums = np.bincount(group, found.values[order])
        values = found.values.copy()
        values[chosen] = sums / np.bincount(group)
        found = replace(found, values=values)
    logger.warning("%s: %s: the %s of them counts.", found.name, told, how)
    return found.only(np.sort(chosen))


def require_within(found: Interactions, bounds: Sequence[float]) -> None:
    """Raise ``ValueError`` naming the first value out of ``bounds``."""
    if found.values is None:
        return
    outside = (found.values < bounds[0]) | (found.values > bounds[1])
    if outside.any():
        row = int(outside.argmax())
        raise ValueError(
            f"{found.name}, {found.place(row)}: the value {found.values[row]:g} is not from "
            f"{bounds[0]:g} to {bounds[1]:g} (data.range), as {outside.sum():,} of {len(found):,} "
            "are not"
        )


def only_liked(found: Interactions, least: float) -> Interactions:
    """The rows of at least that value. Raises ``ValueError`` where there is none."""
    if found.values is None:
        raise ValueError(
            f"{found.name} has no values, of which data.positive={least:g} would be one"
        )
    liked = found.values >= least
    if not liked.any():
        raise ValueError(
            f"{found.name}: no value is at least {least:g} (data.positive); the greatest is "
            f"{found.values.max():g}"
        )
    if not liked.all():
        logger.info(
            "%s: %s of %s rows have a value of at least %g and count as liked; the others are left "
            "out.",
            *(found.name, f"{liked.sum():,}", f"{len(found):,}", least),
        )
    return found.only(liked)


def without_tested(found: Interactions, tested: Interactions) -> Interactions:
    """The rows whose pair is not one of ``tested``, coded alike.

    A test file is often a part of the file of all ratings. Values that differ are told.
    """
    pairs = found.pairs
    inside = np.isin(pairs, tested.pairs)
    if not inside.any():
        return found
    if inside.all():
        raise ValueError(
            f"{found.name}: every row is one of {tested.name}, too: none is left to train on"
        )
    logger.info(
        "%s: %s of %s rows are those of %s: they are tested on, and not trained on.",
        *(found.name, f"{inside.sum():,}", f"{len(found):,}", tested.name),
    )
    if found.values is not None and tested.values is not None:
        order = np.argsort(tested.pairs, kind="stable")
        places = order[np.searchsorted(tested.pairs, pairs[inside], sorter=order)]
        other = int((tested.values[places] != found.values[inside]).sum())
        if other:
            logger.warning(
                "%s: %s of these have another value in %s.", found.name, f"{other:,}", tested.name
            )
    return found.only(~inside)


def _times(found: Interactions) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.zeros(len(found)) if found.times is None else found.times
