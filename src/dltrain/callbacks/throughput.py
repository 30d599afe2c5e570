"""Throughput, where an example is not the unit that says it best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Callback, Logged, View


class Throughput(Callback):
    """``<unit>_per_second`` in TensorBoard, and ``<unit>/s`` on the console, while training.

    Each of ``units`` is a training metric that tells how many of them an example has, such as
    ``tokens``; a task without it has no such rate. TensorBoard's curve is of the last
    ``log_every`` steps, and so is the console's while an epoch lasts; after it, and at the end,
    the rate is that of the whole run. Evaluation is left out.
    """

    def __init__(self, units: Sequence[str] = ("tokens",)) -> None:
        self.units = list(units)
        self._totals: dict[str, float] = {}
        self._samples = 0
        self._view: View | None = None

    def start(self, view: View) -> None:
        self._view = view

    def log(self, view: View, values: Mapping[str, float]) -> None:
        speed = view.progress.samples_per_second
        rates = {unit: values[unit] * speed for unit in self._units(values)}
        if rates:
            view.log(Logged(scalars={f"{unit}_per_second": rate for unit, rate in rates.items()}))
        view.rates.update(rates)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Count what was trained on since the last time."""
        if split != "train":
            return
        samples = view.progress.samples - self._samples
        for unit in self._units(evaluation.scalars):
            self._totals[unit] = self._totals.get(unit, 0) + evaluation.scalars[unit] * samples
        self._samples = view.progress.samples
        self._tell_whole_run(view)

    def end(self, view: View, status: str) -> None:
        self._tell_whole_run(view)

    def state_dict(self) -> dict[str, Any]:
        return {"totals": dict(self._totals), "samples": self._samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Other callbacks hear of the rates, though the run may have nothing left to train."""
        self._totals, self._samples = dict(state["totals"]), state["samples"]
        if self._view is not None:
            self._tell_whole_run(self._view)

    def _units(self, values: Mapping[str, float]) -> list[str]:
        return [unit for unit in self.units if unit in values]

    def _tell_whole_run(self, view: View) -> None:
        seconds = max(view.seconds["train"], 1e-9)
        view.rates.update({unit: total / seconds for unit, total in self._totals.items()})
