"""Every figure of the last evaluations, as picture files."""

from __future__ import annotations

from dltrain.trainer import Callback, Trainer
from dltrain.types import Evaluation


class Figures(Callback):
    """Writes ``figures/<split>_<name>.png`` of each split's latest evaluation as the run ends."""

    def __init__(self) -> None:
        self._latest: dict[str, Evaluation] = {}

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """Keep the latest; drawing waits for the end."""
        self._latest[split] = evaluation
