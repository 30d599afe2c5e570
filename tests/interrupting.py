"""Ending a run as Ctrl-C does, after a step of one's choice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dltrain.contracts.data import Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Callback, Probe, View
from dltrain.contracts.task import Task
from dltrain.tasks.classification import Classification


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, probe: type[Probe], step: int) -> Iterator[None]:
    """While inside, a run is sent SIGTERM when ``probe`` has looked at it after ``step`` steps."""
    look = probe.look

    def looking(self: Probe, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        found = look(self, task, streams, view, split)
        if split == "train" and view.progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(probe, "look", looking)
        yield


def interrupt_callback_at(step: int, kind: type[Callback], monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt a run as a callback of ``kind`` has heard of the evaluation after ``step``."""
    evaluated = kind.evaluated

    def heard(self: Callback, view: View, split: str, evaluation: Evaluation) -> None:
        evaluated(self, view, split, evaluation)
        if view.progress.step == step and split == "train":
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(kind, "evaluated", heard)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    """Send this process a signal in the middle of training step ``step``."""
    whole_step = Classification.train_step
    done = 0

    def train_step(self: Classification, *arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done == step:
            os.kill(os.getpid(), number)
        return whole_step(self, *arguments)

    monkeypatch.setattr(Classification, "train_step", train_step)
