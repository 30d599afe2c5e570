"""metrics.csv and tables/: the run's numbers as plain files."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any, TextIO

from dltrain.trainer import Trainer
from dltrain.types import Callback, Evaluation

METRICS = "metrics.csv"


class Record(Callback):
    """Writes ``metrics.csv`` (step, epoch, split, name, value) and each split's tables.

    The split ``steps`` has the means of every ``log_every`` steps, ``train`` those of every
    evaluation period, ``validation`` and ``test`` whole splits. No value depends on the clock, so
    two runs of one config and seed write the same bytes.
    """

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def start(self, trainer: Trainer) -> None:
        """Open the file; a resumed run cuts it back to its checkpoint afterwards."""
        path = trainer.folder.path / METRICS
        self._file = path.open("a", newline="", encoding="utf-8")
        if self._file.tell() == 0:
            self._write(("step", "epoch", "split", "name", "value"))

    def log(self, trainer: Trainer, values: Mapping[str, float]) -> None:
        """One row a value."""
        self._rows(trainer, "steps", values)

    def evaluate(self, trainer: Trainer, split: str, evaluation: Evaluation) -> None:
        """One row a scalar; tables as csv files, the latest of each split."""
        self._rows(trainer, split, evaluation.scalars)
        for name, table in evaluation.tables.items():
            (trainer.folder.path / "tables").mkdir(exist_ok=True)
            path = trainer.folder.path / "tables" / f"{split}_{name}.csv"
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([table.columns, *table.rows])

    def end(self, trainer: Trainer, status: str) -> None:
        """Close the file."""
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

    def _rows(self, trainer: Trainer, split: str, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._write((trainer.step, _epoch(trainer), split, name, repr(value)))

    def _write(self, row: tuple[Any, ...]) -> None:
        assert self._file is not None
        csv.writer(self._file, lineterminator="\n").writerow(row)


def _epoch(trainer: Trainer) -> int | float:
    """Epochs done, with the share of the one begun."""
    epochs = round(trainer.step / len(trainer.loaders.train), 4)
    return int(epochs) if epochs.is_integer() else epochs
