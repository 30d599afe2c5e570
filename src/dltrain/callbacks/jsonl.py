"""metrics.jsonl: the run's numbers, one JSON object a line."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, TextIO

from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Callback, Logged, View

FILE = "metrics.jsonl"


class JsonLines(Callback):
    """Writes ``{"step": 20, "epoch": 1, "split": "validation", "loss": 0.5, …}``, line by line.

    The split ``steps`` has the means of every ``log_every`` steps, ``train`` those of every
    evaluation period, ``callbacks`` what other callbacks log. JSON knows finite numbers alone: any
    other is null. A resumed run writes the same bytes as one that was never interrupted.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def start(self, view: View) -> None:
        """Open the file; a resumed run cuts it back to its checkpoint afterwards."""
        self._file = (view.path / FILE).open("a", encoding="utf-8")

    def log(self, view: View, values: Mapping[str, float]) -> None:
        self._line(view, "steps", values)

    def logged(self, view: View, logged: Logged) -> None:
        if logged.scalars:
            self._line(view, "callbacks", logged.scalars)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        self._line(view, split, evaluation.scalars)

    def end(self, view: View, status: str) -> None:
        if self._file is not None:
            self._file.close()

    def state_dict(self) -> dict[str, Any]:
        """How long the file was."""
        assert self._file is not None
        self._file.flush()
        return {"length": self._file.tell()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Forget what was written after the checkpoint: it will be written again."""
        assert self._file is not None
        self._file.truncate(state["length"])
        self._file.seek(0, 2)

    def _line(self, view: View, split: str, values: Mapping[str, float]) -> None:
        assert self._file is not None
        numbers = {n: v if math.isfinite(v) else None for n, v in values.items()}
        place = {"step": view.progress.step, "epoch": view.progress.epoch, "split": split}
        self._file.write(json.dumps({**place, **numbers}, allow_nan=False) + "\n")
        self._file.flush()
