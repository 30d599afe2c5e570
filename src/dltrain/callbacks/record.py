"""metrics.csv and tables/: the run's numbers as plain files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from dltrain.callbacks.appended import Appended
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Progress, View

METRICS = "metrics.csv"


class Record(Appended):
    """Writes ``metrics.csv`` (step, epoch, split, name, value) and each split's tables.

    The split ``steps`` has the means of every ``log_every`` steps, ``train`` those of every
    evaluation period, ``validation`` and ``test`` whole splits. No value depends on the clock, so
    two runs of one config and seed write the same bytes.
    """

    name = METRICS

    def start(self, view: View) -> None:
        super().start(view)
        if self.file.tell() == 0:
            self._write(("step", "epoch", "split", "name", "value"))

    def log(self, view: View, values: Mapping[str, float]) -> None:
        """One row a value."""
        self._rows(view.progress, "steps", values)

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """One row a scalar; tables as csv files, the latest of each split."""
        self._rows(view.progress, split, evaluation.scalars)
        self._tables(view, split, evaluation)

    def reevaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        """The tables alone: ``metrics.csv`` has the scalars at the step of the best weights."""
        self._tables(view, split, evaluation)

    def _tables(self, view: View, split: str, evaluation: Evaluation) -> None:
        for name, table in evaluation.tables.items():
            text = io.StringIO(newline="")
            csv.writer(text).writerows([table.columns, *table.rows])
            # Once a period, and written again at the next: nothing waits for the disk.
            view.write(f"tables/{split}_{name}.csv", text.getvalue(), sync=False)

    def _rows(self, progress: Progress, split: str, values: Mapping[str, float]) -> None:
        epoch = _epoch(progress)
        for name, value in values.items():
            self._write((progress.step, epoch, split, name, repr(value)))

    def _write(self, row: tuple[Any, ...]) -> None:
        csv.writer(self.file, lineterminator="\n").writerow(row)


def _epoch(progress: Progress) -> int | float | str:
    """Epochs done, with the fraction of the one begun; empty where there are none."""
    if progress.steps_per_epoch is None:
        return ""
    epochs = round(progress.step / progress.steps_per_epoch, 4)
    return int(epochs) if epochs.is_integer() else epochs
