"""Which trial comes next: each is trained to its end once, whatever happens to the processes.

A trial whose process has died is replaced by one of the same values, which goes on from its run's
checkpoint. Only one process can do so, for only one can set a trial to failed. A trial beyond the
number asked for, begun because two processes asked at once, is withdrawn before it has values.
Neither is counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from optuna import Study
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from dltrain.tuning.alive import HOLDER, Holder, Watch

REPLACED, WITHDRAWN, ORIGIN = "replaced", "withdrawn", "origin"
DEATHS, ERROR, GIVEN_BACK = "deaths", "error", "given_back"
"""Attributes of trials."""
MOST_DEATHS = 3
"""A trial whose process died so often between two evaluations is given up: it may be what kills."""
POLL = 0.5
"""Seconds between two looks at what others do."""


def number_of(trial: FrozenTrial | Trial) -> int:
    """Optuna's number of a trial, or of the one that it replaces: the order in which they began."""
    return int(trial.user_attrs.get(ORIGIN, trial.number))


def counted(study: Study) -> list[FrozenTrial]:
    """The trials of a study, each once, in the order in which they began.

    To a user, the place in this list is a trial's number.
    """
    trials = study.get_trials(deepcopy=False)
    return sorted((t for t in trials if not {REPLACED, WITHDRAWN} & {*t.user_attrs}), key=number_of)


def replace_lost(study: Study) -> None:
    """Replace trials that a process had taken from a dead one, and died itself in that moment."""
    standing = {number_of(trial) for trial in counted(study)}
    for trial in study.get_trials(deepcopy=False):
        lost = REPLACED in trial.user_attrs and trial.state.is_finished()
        if lost and number_of(trial) not in standing:
            _add_again(study, trial)
            standing.add(number_of(trial))


class Queue:
    """The trials that this process, ``holder``, takes: ``count`` in all, together with others."""

    def __init__(
        self,
        study: Study,
        distributions: Mapping[str, BaseDistribution],
        count: int,
        seed: int,
        holder: Holder,
    ) -> None:
        self._study, self._distributions, self._count = study, dict(distributions), count
        self._seed, self._holder, self._watch = seed, holder, Watch()

    def next(self) -> Trial | None:
        """A trial to train, new or of a process that died; None when all have ended.

        Waits while others train the last ones, for their processes may die.
        """
        while True:
            for trial in self._in(TrialState.RUNNING):
                if self._watch.is_dead(trial):
                    self._replace(trial)
            if self._in(TrialState.WAITING) or self._begun() < self._count:
                found = self._ask()
                if found is not None:
                    return found
            elif self._in(TrialState.RUNNING):
                time.sleep(POLL)
            else:
                return None

    def _in(self, state: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=(state,))

    def _begun(self, before: int | None = None) -> int:
        """How many trials there are, of those with a number below ``before``."""
        return len(_numbers(self._study.get_trials(deepcopy=False)[:before]))

    def _ask(self) -> Trial | None:
        """A trial that is ours; None for one too many."""
        trial = self._study.ask()
        before = self._begun(trial.number)
        if ORIGIN not in trial.user_attrs and before >= self._count:
            trial.set_user_attr(WITHDRAWN, True)
            self._study.tell(trial, state=TrialState.FAIL)
            return None
        trial.set_user_attr(HOLDER, self._holder.attributes)
        # Drawn by its place alone: a study that was killed goes on as if it had not been.
        place = np.random.SeedSequence([self._seed, before])
        self._study.sampler = TPESampler(seed=int(place.generate_state(1)[0]))
        for key, distribution in self._distributions.items():
            _draw(trial, key, distribution)
        return trial

    def _replace(self, dead: FrozenTrial) -> None:
        """Have a dead process's trial trained to its end, unless another process does so."""
        deaths = _deaths(dead)
        trial = Trial(self._study, dead._trial_id)
        with suppress(UpdateFinishedTrialError, ValueError):  # it has ended, or is replaced
            if deaths == MOST_DEATHS:
                trial.set_user_attr(ERROR, f"its process died {deaths} times")
            else:
                trial.set_user_attr(REPLACED, True)
            self._study.tell(trial, state=TrialState.FAIL)
            if deaths < MOST_DEATHS:
                _add_again(self._study, dead)


def _numbers(trials: Iterable[FrozenTrial]) -> set[int]:
    return {number_of(trial) for trial in trials if WITHDRAWN not in trial.user_attrs}


def _deaths(trial: FrozenTrial) -> int:
    """How often a trial's process died; one that was asked to end has given its trial back."""
    return int(trial.user_attrs.get(DEATHS, 0)) + (GIVEN_BACK not in trial.user_attrs)


def _add_again(study: Study, trial: FrozenTrial) -> None:
    """A waiting trial of the same values, which takes over what is there of ``trial``."""
    kept: dict[str, Any] = {
        name: value
        for name, value in trial.user_attrs.items()
        if name not in (REPLACED, HOLDER, GIVEN_BACK)
    }
    deaths = {DEATHS: _deaths(trial), ORIGIN: number_of(trial)}
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=kept | deaths,
            intermediate_values=trial.intermediate_values,
        )
    )


def _draw(trial: Trial, key: str, of: BaseDistribution) -> None:
    """A value, unless the trial has it already."""
    if isinstance(of, CategoricalDistribution):
        trial.suggest_categorical(key, of.choices)
    elif isinstance(of, IntDistribution):
        trial.suggest_int(key, of.low, of.high, step=of.step, log=of.log)
    elif isinstance(of, FloatDistribution):
        trial.suggest_float(key, of.low, of.high, step=of.step, log=of.log)
