"""Tells a trial what its run's evaluations say, and ends a run that is worth no more steps."""

from __future__ import annotations

import math

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial

from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Callback, Setup, View
from dltrain.errors import UserError
from dltrain.tuning.trials import DEATHS

RUN, PRUNED = "run", "pruned"
"""Attributes of a trial: its run's folder, and that it was ended early."""
PARTS = 1000
"""A run's evaluations are compared at equal progress, in parts of the whole; steps would differ
with the batch size."""


class ChoosesByValidation(Callback):
    """Refuses a run without a validation split: there is nothing else to choose by."""

    def check(self, setup: Setup) -> None:
        if "validation" not in setup.splits:
            raise UserError(
                "tune: there is no validation split to choose by, and the test split is not for "
                "choosing; set data.validation above 0."
            )


class Reporting(ChoosesByValidation):
    """Hands each monitored validation value to ``trial``; with ``prune`` asks it for an end."""

    def __init__(self, trial: Trial, prune: bool) -> None:
        self._trial, self._prune = trial, prune
        self._known: set[int] = set()

    def start(self, view: View) -> None:
        """Say where the run lies, so that another process can go on with it."""
        study = self._trial.study
        frozen = study.get_trials(deepcopy=False)[self._trial.number]
        self._known = {*frozen.intermediate_values}
        self._trial.set_user_attr(RUN, str(view.path.resolve()))

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Report, and ask whether to go on."""
        value = evaluation.scalars.get(view.monitor.name)
        if split != "validation" or value is None or not math.isfinite(value):
            return
        place = round(PARTS * view.progress.step / view.progress.max_steps)
        try:
            if place not in self._known:  # a run that goes on repeats what was since its checkpoint
                self._known.add(place)
                self._trial.report(float(value), place)
                if self._trial.user_attrs.get(DEATHS):  # it gets somewhere
                    self._trial.set_user_attr(DEATHS, 0)
            if self._prune and place < PARTS and self._trial.should_prune():
                self._trial.set_user_attr(PRUNED, True)
                view.stop(f"other trials had a better {view.monitor.name} by then (pruned)")
        except UpdateFinishedTrialError:
            view.stop("another process took this one for dead and has its trial")
