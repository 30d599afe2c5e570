"""Stop when the validation metric no longer improves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Callback, Setup, View
from dltrain.contracts.task import Monitor
from dltrain.errors import UserError, require_at_least


class EarlyStopping(Callback):
    """Ends the run after ``patience`` evaluations without an improvement of ``min_delta``.

    ``monitor`` names a validation metric; null takes the run's. ``mode`` says whether ``min`` or
    ``max`` is better, where the metric does not.
    """

    def __init__(
        self,
        patience: int = 5,
        min_delta: float = 0.0,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
    ) -> None:
        require_at_least(1, patience=patience)
        require_at_least(0, min_delta=min_delta)
        if monitor is None and mode is not None:
            raise ValueError("mode is of a monitor, which must be given beside it")
        self.patience, self.min_delta = patience, min_delta
        self._name, self._mode = monitor, mode
        self._monitor = Monitor(monitor, mode) if monitor and mode else None
        self._best: float | None = None
        self._waited = 0

    def check(self, setup: Setup) -> None:
        if "validation" not in setup.splits:
            raise UserError(
                "callbacks.early_stopping: there is no validation split to watch; "
                "set data.validation above 0."
            )
        if self._name is None:
            return
        if self._name not in setup.metrics:
            raise UserError(
                f"callbacks.early_stopping.monitor: there is no metric {self._name!r}; "
                f"there are {', '.join(setup.metrics)}."
            )
        mode = self._mode or setup.better.get(self._name)
        if mode is None:
            raise UserError(
                "callbacks.early_stopping.monitor: nobody says whether more of "
                f"{self._name} is better; set callbacks.early_stopping.mode=max or min."
            )
        self._monitor = Monitor(self._name, mode)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Count evaluations of the validation split since the last improvement."""
        if split != "validation":
            return
        monitor = self._monitor or view.monitor
        value = evaluation.scalars.get(monitor.name)
        if value is None:  # a phase of the run may be about something else
            return
        margin = self.min_delta if monitor.mode == "max" else -self.min_delta
        if monitor.better(value, None if self._best is None else self._best + margin):
            self._best, self._waited = value, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            what = "been a number" if self._best is None else f"improved on {self._best}"
            view.stop(f"{monitor.name} has not {what} for {self.patience} evaluations")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "waited": self._waited}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._waited = state["best"], state["waited"]
