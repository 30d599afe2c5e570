"""Every figure of the last evaluations, as image files."""

from __future__ import annotations

import csv

from dltrain.callbacks.record import METRICS
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Callback, View


class Figures(Callback):
    """Draws as the run ends: ``figures/<split>_<name>.png`` and ``figures/learning_curves.png``.

    Each split's latest evaluation is kept and the earlier ones dropped, so that training waits
    for no drawing; matplotlib is imported at the end too. A failed run is not drawn.
    """

    def __init__(self) -> None:
        self._latest: dict[str, Evaluation] = {}

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Keep the latest."""
        self._latest[split] = evaluation

    def end(self, view: View, status: str) -> None:
        """Draw and write everything."""
        if status == "failed":
            return
        from dltrain.reports.canvas import png, render
        from dltrain.reports.curves import draw_learning_curves

        images = {
            f"{split}_{name}": render(draw)
            for split, evaluation in self._latest.items()
            for name, draw in evaluation.figures.items()
        }
        with (view.path / METRICS).open(newline="", encoding="utf-8") as file:
            images["learning_curves"] = png(draw_learning_curves(csv.DictReader(file)))
        for name, image in images.items():
            view.write(f"figures/{name}.png", image)
