"""What each single example of a split contributes to a mean: two runs are compared pair by pair."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Outputs, Table
from dltrain.metrics.accumulators import AccumulatorMetric, Everything, widest

EXAMPLES = "examples"
"""The table's name."""
MOST = 100_000
"""Examples of a split beyond which there is no table; it would have megabytes."""
DIGITS = 6
"""Significant digits that are kept of a value."""

Value = Callable[[Outputs, Batch], Tensor]


class PerExample(AccumulatorMetric):
    """A table of values whose means over the split are the metrics that the columns are named by.

    ``values`` give a number (batch,) for each example of a batch. Rows are in the split's order,
    so those of two runs on one split belong together. Examples that are not ``counted`` (batch,) in
    these means have none. Of a split of more than ``most`` examples there is no table, but a
    warning.
    """

    def __init__(
        self,
        values: Mapping[str, Value],
        most: int = MOST,
        counted: Value | None = None,
    ) -> None:
        self._values, self._most, self._counted = values, most, counted
        self._all = Everything()
        super().__init__(all=self._all)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Keep the batch's values."""
        columns = [widest(value(outputs, batch)) for value in self._values.values()]
        some = torch.ones_like(columns[0], dtype=torch.bool)
        if self._counted is not None:
            some = self._counted(outputs, batch)
        self._all.add(rows, some, *columns)

    def compute(self) -> Evaluation:
        """The table ``examples``."""
        some, *found = self._all.found()
        columns = torch.stack(found)[:, some].cpu()
        count = columns.shape[1]
        if count > self._most:
            warning = (
                f"The results of {count:,} single examples are not kept, for more than "
                f"{self._most:,} are too many: dltrain compare has no paired test for this run."
            )
            return Evaluation(warnings=[warning])
        rows = [[f"{value:.{DIGITS}g}" for value in row] for row in columns.T.tolist()]
        return Evaluation(tables={EXAMPLES: Table(list(self._values), rows)})
