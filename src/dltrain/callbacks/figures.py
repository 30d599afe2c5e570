"""Every figure of the last evaluations, as picture files."""

from __future__ import annotations

import csv
from operator import methodcaller

from dltrain.callbacks.record import METRICS
from dltrain.trainer import Trainer
from dltrain.types import Callback, Evaluation


class Figures(Callback):
    """Draws as the run ends: ``figures/<split>_<name>.png`` and ``figures/learning_curves.png``.

    Each split's latest evaluation is kept and the earlier ones dropped, so that training waits
    for no drawing; matplotlib is imported at the end too. A failed run is not drawn.
    """

    def __init__(self) -> None:
        self._latest: dict[str, Evaluation] = {}

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """Keep the latest."""
        self._latest[split] = evaluation

    def end(self, trainer: Trainer, status: str) -> None:
        """Draw and write everything."""
        if status == "failed":
            return
        from dltrain.figures.canvas import png, render
        from dltrain.figures.curves import draw_learning_curves

        pictures = {
            f"{split}_{name}": render(draw)
            for split, evaluation in self._latest.items()
            for name, draw in evaluation.figures.items()
        }
        with (trainer.folder.path / METRICS).open(newline="", encoding="utf-8") as file:
            pictures["learning_curves"] = png(draw_learning_curves(csv.DictReader(file)))
        for name, picture in pictures.items():
            trainer.folder.write(f"figures/{name}.png", methodcaller("write", picture))
