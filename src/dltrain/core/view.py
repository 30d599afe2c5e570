"""A run as its callbacks see it: read-only, but for files, what they log, and the wish to stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import methodcaller
from pathlib import Path

from dltrain.contracts.run import Callback, Logged
from dltrain.contracts.task import Monitor
from dltrain.core.settings import Settings
from dltrain.core.state import State
from dltrain.runs.folder import RunFolder


class RunProgress:
    """A :class:`~dltrain.contracts.run.Progress` that goes on as ``state`` does."""

    def __init__(self, state: State, max_steps: int, steps_per_epoch: int | None) -> None:
        self._state = state
        self.max_steps, self.steps_per_epoch = max_steps, steps_per_epoch
        self.samples_per_second = 0.0

    @property
    def step(self) -> int:
        """Batches trained on so far."""
        return self._state.step

    @property
    def samples(self) -> int:
        """Examples trained on so far."""
        return self._state.samples

    @property
    def epoch(self) -> int:
        """Epochs of the training split completed."""
        return self._state.place("train").epoch


class RunView:
    """A :class:`~dltrain.contracts.run.View`; the loop keeps what it shows up to date."""

    def __init__(
        self,
        state: State,
        progress: RunProgress,
        settings: Settings,
        folder: RunFolder,
        monitor: Monitor,
        splits: Mapping[str, int | None],
        callbacks: Sequence[Callback],
    ) -> None:
        self._state, self._folder, self._callbacks = state, folder, callbacks
        self.progress, self.monitor, self.splits = progress, monitor, splits
        self.device, self.precision = str(settings.device), settings.precision
        self.latest: Mapping[str, float] = {}
        self.rates: dict[str, float] = {}
        self.resumed = False

    @property
    def path(self) -> Path:
        """The run folder."""
        return self._folder.path

    @property
    def results(self) -> Mapping[str, Mapping[str, float]]:
        """The latest scalars of each split."""
        return self._state.results

    @property
    def seconds(self) -> Mapping[str, float]:
        """Spent on ``setup``, ``train`` and ``evaluate``."""
        return self._state.seconds

    @property
    def stop_reason(self) -> str:
        """Why the run ends early; empty where it does not."""
        return self._state.stop_reason

    def write(self, name: str, content: bytes | str, sync: bool = True) -> None:
        """Write a file of the run folder, whole or not at all."""
        data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
        self._folder.write(name, methodcaller("write", data), sync)

    def log(self, logged: Logged) -> None:
        """Hand what one callback has to show to all of them."""
        for callback in self._callbacks:
            callback.logged(self, logged)

    def stop(self, reason: str) -> None:
        """Ask for an early, regular end: the test split is still evaluated."""
        self._state.stop_reason = reason
