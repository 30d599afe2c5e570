"""The learning rate of a run whose phases have schedules of their own."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Protocol

from dltrain.contracts.run import Schedule
from dltrain.contracts.task import Phase


class Made(Protocol):
    """Makes the schedule that the config names."""

    def __call__(self, *, total_steps: int) -> Schedule:
        """Of so many steps."""


def by_phase(phases: Sequence[Phase], make: Made) -> Schedule:
    """The schedule of a run of ``phases``: the same for all, or one each that is ``scheduled``."""
    run = make(total_steps=sum(phase.steps for phase in phases))
    if not any(phase.scheduled for phase in phases):
        return run
    return ByPhase(
        phases,
        [make(total_steps=phase.steps) if phase.scheduled else None for phase in phases],
        run,
    )


class ByPhase(Schedule):
    """``own`` schedules of some ``phases``, from where these begin; else that of the run."""

    def __init__(
        self, phases: Sequence[Phase], own: Sequence[Schedule | None], run: Schedule
    ) -> None:
        super().__init__(run.total_steps, run.steps_per_epoch)
        self._ends = list(itertools.accumulate(phase.steps for phase in phases))
        self._phases, self._own, self._run = list(phases), list(own), run

    def shape(self, progress: float) -> float:
        """That of the phase at ``progress``, which is a whole number of steps."""
        step = round(progress * self.total_steps)
        # Nothing is trained after the last step, but somebody may ask.
        number = min(bisect.bisect_right(self._ends, step), len(self._ends) - 1)
        own, begin = self._own[number], self._ends[number] - self._phases[number].steps
        return self._run(step) if own is None else own(step - begin)
