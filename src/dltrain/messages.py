"""What the user must hear of: one way, the logger ``dltrain``.

Whoever has something to say logs it: ``info`` is shown as "note: …", ``warning`` as "warning: …".
Until the run has a console of its own, lines go to standard error; the console has them in
``train.log`` all the same. A traceback that comes with a message (``exc_info``) is there alone.
"""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dltrain.errors import printable_lines

PREFIX = {logging.INFO: "note", logging.WARNING: "warning", logging.ERROR: "error"}
Line = tuple[float, str]
"""When it was logged (seconds since the epoch), and what."""


class Messages(logging.Handler):
    """Shows what is logged, through whatever shows lines now."""

    def __init__(self, speaks: bool = True) -> None:
        super().__init__(logging.INFO)
        self._speaks = speaks
        self._early: list[Line] = []
        self._say: Callable[[str], None] | None = None
        self._keep: Callable[[str, float], None] | None = None

    def show_by(
        self,
        say: Callable[[str], None] | None,
        keep: Callable[[str, float], None] | None = None,
    ) -> list[Line]:
        """From now on by ``say`` (None: on standard error); return the messages before.

        ``keep`` takes what is to be looked up, and not shown: a traceback, and when it was.
        """
        self._say, self._keep = say, keep
        early, self._early = self._early, []
        return early

    def emit(self, record: logging.LogRecord) -> None:
        """Show one message."""
        if not self._speaks:
            return
        line = printable_lines(f"{PREFIX.get(record.levelno, 'note')}: {record.getMessage()}")
        when, error = time.time(), record.exc_info and record.exc_info[1]
        details = "".join(traceback.format_exception(error)).rstrip() if error else ""
        if self._say is None:
            print(line, file=sys.stderr, flush=True)
            self._early += [(when, text) for text in (line, details) if text]
            return
        self._say(line)
        if details and self._keep is not None:
            self._keep(details, when)


@contextmanager
def shown(speaks: bool = True) -> Iterator[Messages]:
    """While inside, what is logged under ``dltrain`` is shown, or kept back."""
    logger, handler = logging.getLogger("dltrain"), Messages(speaks)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
