"""metrics.jsonl: the run's numbers, one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from dltrain.callbacks.appended import Appended
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Logged, View

FILE = "metrics.jsonl"


class JsonLines(Appended):
    """Writes ``{"step": 20, "epoch": 1, "split": "validation", "loss": 0.5, …}``, line by line.

    The split ``steps`` has the means of every ``log_every`` steps, ``train`` those of every
    evaluation period, ``callbacks`` what other callbacks log. JSON knows finite numbers alone: any
    other is null. A resumed run writes the same bytes as one that was never interrupted.
    """

    name = FILE

    def log(self, view: View, values: Mapping[str, float]) -> None:
        self._line(view, "steps", values)

    def logged(self, view: View, logged: Logged) -> None:
        if logged.scalars:
            self._line(view, "callbacks", logged.scalars)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        self._line(view, split, evaluation.scalars)

    def _line(self, view: View, split: str, values: Mapping[str, float]) -> None:
        numbers = {n: v if math.isfinite(v) else None for n, v in values.items()}
        place = {"step": view.progress.step, "epoch": view.progress.epoch, "split": split}
        self.file.write(json.dumps({**place, **numbers}, allow_nan=False) + "\n")
        self.file.flush()
