"""A trained run that a part of another one learns from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Protocol, runtime_checkable

import torch

from dltrain.contracts.data import DataSpec
from dltrain.contracts.task import Task


class OtherRun:
    """A trained run that a task is given by name: a teacher, a network for features.

    It is a handle: training opens it (:meth:`open`), and whoever loads what was trained leaves it
    closed, so that a run is used without the runs that it learned from. It is no module: neither
    checkpoint nor optimizer has its weights.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        """Its folder, or a part of its name."""
        self._task: Task | None = None
        self.digest = ""
        """Of its weights, in hexadecimal digits; empty while it is closed."""

    def open(self, task: Task, spec: DataSpec) -> None:
        """Take the trained ``task``, which lies on the device, and what its data is.

        Raises :class:`ValueError` where it is of no use here.
        """
        for parameter in task.eval().parameters():
            parameter.requires_grad_(False)
        self._task, self.digest = task, _digest(task)

    @property
    def task(self) -> Task:
        """The trained task, in eval mode, frozen."""
        assert self._task is not None, "training opens it"
        return self._task


@runtime_checkable
class LearnsFromRuns(Protocol):
    """A task that is given other runs; in training they are open before its first step."""

    def others(self) -> Mapping[str, OtherRun]:
        """The handles, by the name of the argument that names the run."""


def _digest(task: Task) -> str:
    """Of all weights and their names."""
    found = hashlib.sha256()
    for name, value in task.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()[:16]
