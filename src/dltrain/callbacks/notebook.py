"""A progress bar below a notebook's cell, by IPython alone: no widgets have to be installed."""

from __future__ import annotations

import io
import threading
from typing import Any

from rich.console import Console, RenderableType

SECONDS_BETWEEN = 0.5
WIDTH = 100


def in_notebook() -> bool:
    """Whether what is shown is shown by Jupyter or one of its kind."""
    return Console().is_jupyter


class NotebookBar:
    """One line, ``bar``, that a thread replaces now and then, and that stays as it was last."""

    def __init__(self, bar: RenderableType) -> None:
        self._bar = bar
        self._ended = threading.Event()

    def start(self) -> None:
        """Show it from now on."""
        from IPython.display import display

        self._shown_by = display(self._rendered(), raw=True, display_id=True)
        self._thread = threading.Thread(target=self._renew, name="dltrain bar", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Show it a last time."""
        self._ended.set()
        self._thread.join()
        self._shown_by.update(self._rendered(), raw=True)

    def _renew(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN):
            self._shown_by.update(self._rendered(), raw=True)

    def _rendered(self) -> dict[str, Any]:
        text = io.StringIO()
        # No colors, and no terminal's trickery: the text itself is the output.
        Console(
            file=text, width=WIDTH, color_system=None, force_jupyter=False, force_terminal=False
        ).print(self._bar)
        return {"text/plain": text.getvalue().rstrip()}
