"""``dltrain predict RUN --user NAME``: what a run recommends."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dltrain.errors import UserError

if TYPE_CHECKING:
    from dltrain.inference.predictor import Predictor

logger = logging.getLogger(__name__)

COUNT = 10
OTHERS = ("threshold", "style", "style_size", "figure", "keep", "skip_unreadable")
"""Options of what is predicted of inputs."""


def add_user_options(parser: argparse.ArgumentParser) -> None:
    """The options that only recommendations have; None where they are not typed."""
    add = parser.add_argument
    add("--user", metavar="NAME", help="instead of an INPUT: what to recommend to that user")
    add("--n", type=int, metavar="N", help=f"of --user: how many items (default {COUNT})")


def require_alone(asked: argparse.Namespace) -> None:
    """Raise :class:`UserError` for options that do not go together."""
    if asked.user is None:
        if asked.n is not None:
            raise UserError("predict: --n is of --user NAME.")
        return
    if asked.more:
        raise UserError(f"predict: --user NAME or INPUT, not both; got {asked.more[0]}.")
    for name in OTHERS:
        if getattr(asked, name):
            raise UserError(f"predict: --{name.replace('_', '-')} does not go with --user.")
    if asked.n is not None and asked.n < 1:
        raise UserError(f"predict: --n is a whole number from 1; got {asked.n}.")


def recommended(asked: argparse.Namespace, predictor: Predictor) -> Mapping[str, Sequence[Any]]:
    """The items as columns. Raises :class:`UserError` where none is left."""
    found = predictor.recommend(asked.user, COUNT if asked.n is None else asked.n)
    if not found["item"]:
        raise UserError(f"predict: the user {asked.user} has every item already.")
    if asked.n is not None and len(found["item"]) < asked.n:
        logger.warning(
            "the user %s has all items but these %s; %s were asked for.",
            *(asked.user, f"{len(found['item']):,}", f"{asked.n:,}"),
        )
    return found
