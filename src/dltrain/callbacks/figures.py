"""Every figure of the last evaluations, as image files."""

from __future__ import annotations

import csv
from collections.abc import Collection, Mapping
from pathlib import Path

from dltrain.callbacks.drawing import drawn, rendered
from dltrain.callbacks.record import METRICS
from dltrain.contracts.metric import Evaluation, Mode
from dltrain.contracts.run import Callback, Setup, View
from dltrain.files import open_within


class Figures(Callback):
    """Draws as the run ends: ``figures/<split>_<name>.png`` and ``figures/learning_curves.png``.

    Each split's latest evaluation is kept and the earlier ones dropped, so that training waits
    for no drawing; matplotlib is imported at the end too. A failed run is not drawn, and a figure
    that cannot be drawn is left out with a note.
    """

    def __init__(self) -> None:
        self._latest: dict[str, Evaluation] = {}
        self._better: Mapping[str, Mode] = {}

    def check(self, setup: Setup) -> None:
        """Hear which metrics are better the higher they are."""
        self._better = setup.better

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        self._latest[split] = evaluation

    def reevaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """Draw what the weights say that the run is used with."""
        self._latest[split] = evaluation

    def end(self, view: View, status: str) -> None:
        if status == "failed":
            return
        images = {
            f"{split}_{name}": rendered(f"{split}_{name}", draw)
            for split, evaluation in self._latest.items()
            for name, draw in evaluation.figures.items()
        }
        # What is a rate besides, as tokens are, is no metric.
        curves = view.path, self._better, set(view.rates)
        images["learning_curves"] = drawn("learning_curves", _curves, *curves)
        for name, image in images.items():
            if image is not None:
                view.write(f"figures/{name}.png", image)


def _curves(folder: Path, better: Mapping[str, Mode], without: Collection[str]) -> bytes:
    from dltrain.reports.canvas import png
    from dltrain.reports.curves import draw_learning_curves

    with open_within(folder, METRICS, newline="") as file:
        return png(draw_learning_curves(csv.DictReader(file), better, without))
