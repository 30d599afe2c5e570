"""How much is read in a second, where an example is not the unit that says it best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dltrain.callbacks.console import Console
from dltrain.callbacks.tensorboard import TensorBoard
from dltrain.trainer import Trainer
from dltrain.types import Callback, Evaluation


class Throughput(Callback):
    """``<unit>_per_second`` in TensorBoard, and ``<unit>/s`` on the console, while training.

    Each of ``units`` is a training metric that tells how many of them an example has, such as
    ``tokens``; a task without it has no such rate. TensorBoard's curve is of the last
    ``log_every`` steps, and so is the console's while an epoch lasts; after it, and at the end,
    the rate is that of the whole run. Evaluation is left out.
    """

    def __init__(self, units: Sequence[str] = ("tokens",)) -> None:
        self.units = list(units)
        self._boards: list[TensorBoard] = []
        self._consoles: list[Console] = []
        self._totals: dict[str, float] = {}
        self._samples = 0

    def start(self, trainer: Trainer) -> None:
        """Find those who show it."""
        self._boards = [one for one in trainer.callbacks if isinstance(one, TensorBoard)]
        self._consoles = [one for one in trainer.callbacks if isinstance(one, Console)]

    def log(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """The rates of the last steps."""
        rates = {unit: values[unit] * trainer.samples_per_second for unit in self._units(values)}
        for board in self._boards:
            for unit, rate in rates.items():
                board.scalar(f"{unit}_per_second", trainer.step, rate)
        self._tell(rates)

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """Count what was trained on since the last time."""
        if split != "train":
            return
        samples = trainer.samples - self._samples
        for unit in self._units(evaluation.scalars):
            self._totals[unit] = self._totals.get(unit, 0) + evaluation.scalars[unit] * samples
        self._samples = trainer.samples
        self._tell_whole_run(trainer)

    def end(self, trainer: Trainer, status: str) -> None:
        """The rates of the whole run."""
        self._tell_whole_run(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What was counted, and up to which example."""
        return {"totals": dict(self._totals), "samples": self._samples}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on."""
        self._totals, self._samples = dict(state["totals"]), state["samples"]

    def _units(self, values: Mapping[str, float]) -> list[str]:
        return [unit for unit in self.units if unit in values]

    def _tell_whole_run(self, trainer: Trainer) -> None:
        seconds = max(trainer.seconds["train"], 1e-9)
        self._tell({unit: total / seconds for unit, total in self._totals.items()})

    def _tell(self, rates: Mapping[str, float]) -> None:
        for console in self._consoles:
            console.rates.update(rates)
