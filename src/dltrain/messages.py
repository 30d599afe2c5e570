"""What the user must hear of: one way, the logger ``dltrain``.

Whoever has something to say logs it: ``info`` is shown as "note: …", ``warning`` as "warning: …".
Until the run has a console of its own, lines go to standard error; the console has them in
``train.log`` all the same.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PREFIX = {logging.INFO: "note", logging.WARNING: "warning", logging.ERROR: "error"}
Line = tuple[float, str]
"""When it was logged (seconds since the epoch), and what."""


class Messages(logging.Handler):
    """Shows what is logged, through whatever shows lines now."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._early: list[Line] = []
        self._say: Callable[[str], None] | None = None

    def show_by(self, say: Callable[[str], None] | None) -> list[Line]:
        """From now on by ``say`` (None: on standard error); return the messages before."""
        self._say = say
        early, self._early = self._early, []
        return early

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message."""
        line = f"{PREFIX.get(record.levelno, 'note')}: {record.getMessage()}"
        if self._say is not None:
            self._say(line)
            return
        print(line, file=sys.stderr, flush=True)
        self._early.append((time.time(), line))


@contextmanager
def shown() -> Iterator[Messages]:
    """While inside, what is logged under ``dltrain`` is shown."""
    logger, handler = logging.getLogger("dltrain"), Messages()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
