"""An interruption from within a run, as Ctrl-C or a scheduler makes it."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from dltrain.contracts.run import Callback, Probe, View


def interrupt(number: int = signal.SIGTERM) -> None:
    """Ask this process to end."""
    os.kill(os.getpid(), number)


def interrupt_probe_at(step: int, kind: type[Probe], monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a run as a probe of ``kind`` has looked at the period that ends with ``step``."""
    look = kind.look

    def looked(self: Probe, task: Any, streams: Any, view: View, split: str) -> Any:
        found = look(self, task, streams, view, split)
        if view.progress.step == step and split == "train":
            interrupt()
        return found

    monkeypatch.setattr(kind, "look", looked)


def interrupt_callback_at(step: int, kind: type[Callback], monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a run as a callback of ``kind`` has heard of the evaluation after ``step``."""
    evaluated = kind.evaluated

    def heard(self: Callback, view: View, split: str, evaluation: Any) -> None:
        evaluated(self, view, split, evaluation)
        if view.progress.step == step and split == "train":
            interrupt()

    monkeypatch.setattr(kind, "evaluated", heard)
