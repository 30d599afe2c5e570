"""Draw a figure so that one which cannot be drawn costs a note, and not the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from dltrain.engine.runtime import cycles_freed

logger = logging.getLogger(__name__)

_failed: WeakSet[Callable[..., bytes]] = WeakSet()


def drawn(name: str, draw: Callable[..., bytes], *arguments: Any) -> bytes | None:
    """What ``draw`` gives for ``arguments``; None where it fails.

    The figure's name and the reason are noted, and the traceback is in ``train.log``. ``draw``
    imports what it needs itself: where matplotlib cannot be imported, the run goes on.
    """
    try:
        with cycles_freed():
            return draw(*arguments)
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        logger.info(
            "the figure %s is left out: %s", name, f"{type(error).__name__}: {reason}",
            exc_info=True,
        )  # fmt: skip
        return None


def rendered(name: str, draw: Callable[[], Any]) -> bytes | None:
    """An evaluation's figure as a PNG file; None where it fails, which is noted once."""
    if draw in _failed:
        return None
    image = drawn(name, _render, draw)
    if image is None:
        _failed.add(draw)
    return image


def _render(draw: Callable[[], Any]) -> bytes:
    from dltrain.reports.canvas import render

    return render(draw)
