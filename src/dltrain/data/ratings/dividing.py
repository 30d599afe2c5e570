"""Which ratings are set aside: any, the last of all, or the last of each user."""

from __future__ import annotations

import logging
from typing import Literal

import numpy as np

from dltrain.data.ratings.interactions import Interactions
from dltrain.data.streams.division import TEST_SEED

logger = logging.getLogger(__name__)

By = Literal["random", "time", "leave_one_out"]
LEAST = 2
"""Ratings that a user keeps to train on, where the last is set aside."""


def in_time(found: Interactions) -> Interactions:
    """The rows from the first to the last. Raises ``ValueError`` where the file has no times."""
    if found.times is None:
        raise ValueError(
            f"{found.name} has no column of times (data.time=NAME), and split=time needs it"
        )
    return found.only(np.argsort(found.times, kind="stable"))


def aside(found: Interactions, by: By, test: float) -> tuple[Interactions, Interactions]:
    """The rows left, and the test split of them, which is the same for every seed.

    Of ``leave_one_out`` it is the last of each user, and ``test`` is without effect.
    """
    if by == "leave_one_out":
        return last_of_each(found, "test")
    count = max(1, round(test * len(found)))
    if count >= len(found):
        raise ValueError(f"{found.name} has {len(found)} rows, too few to set {count} aside")
    if by == "time":
        return found.only(np.arange(len(found) - count)), found.only(
            np.arange(len(found) - count, len(found))
        )
    tested = np.zeros(len(found), bool)
    tested[np.random.default_rng(TEST_SEED).permutation(len(found))[:count]] = True
    return found.only(~tested), found.only(tested)


def last_of_each(found: Interactions, split: str) -> tuple[Interactions, Interactions]:
    """The rows left, and the last of each user: by time, or drawn where the file has no times.

    Who would keep fewer than ``LEAST`` gives none, which is told.
    """
    rows = len(found)
    if found.times is None:
        logger.info(
            "%s has no times: a rating of each user is drawn as %s split.", found.name, split
        )
        turn = np.random.default_rng(TEST_SEED).permutation(rows).astype(np.float64)
    else:
        turn = found.times
    order = np.lexsort((np.arange(rows), turn, found.users))
    last = np.append(np.diff(found.users[order]) != 0, True)
    enough = np.bincount(found.users)[found.users[order]] > LEAST
    tested = np.zeros(rows, bool)
    tested[order[last & enough]] = True
    few = int((last & ~enough).sum())
    if not tested.any():
        raise ValueError(
            f"{found.name}: no user has more than {LEAST} ratings, so that one could be set aside"
        )
    if few:
        logger.info(
            "%s, %s: %s users with at most %d ratings are trained on alone.",
            *(found.name, split, f"{few:,}", LEAST),
        )
    return found.only(~tested), found.only(tested)
