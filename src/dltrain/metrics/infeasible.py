"""Sounds that are too short for their transcripts."""

from __future__ import annotations

from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Outputs
from dltrain.metrics.accumulators import AccumulatorMetric, Everything

SHOWN = 5


class Infeasible(AccumulatorMetric):
    """The fraction of the transcripts that need more steps than their sounds have.

    Of outputs it reads ``feasible`` (batch,); where any is not, there is a warning.
    """

    names = ("infeasible",)

    def __init__(self) -> None:
        self._all = Everything()
        super().__init__(all=self._all)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        self._all.add(rows, outputs["feasible"])

    def compute(self) -> Evaluation:
        """The fraction, and which they are."""
        (feasible,) = self._all.found()
        places = (~feasible).nonzero()[:, 0].tolist()
        warnings = []
        if places:
            shown = ", ".join(map(str, places[:SHOWN])) + (", …" if len(places) > SHOWN else "")
            warnings = [
                f"{len(places):,} of {len(feasible):,} transcripts are longer than the network has "
                f"steps for (examples {shown} of the split): no loss is taken of them. A smaller "
                "model.reduction or data.hop gives more steps."
            ]
        return Evaluation({"infeasible": len(places) / len(feasible)}, warnings=warnings)
