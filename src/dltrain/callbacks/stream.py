"""What the training data has to show of itself while a run goes on."""

from __future__ import annotations

from dltrain.contracts.data import Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Probe, View
from dltrain.contracts.task import Task


class StreamScalars(Probe):
    """Beside the training metrics of each period: the training stream's own.

    Of an environment these are the episodes that have ended and the steps taken so far.
    """

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        return Evaluation(dict(streams["train"].scalars())) if split == "train" else Evaluation()
