"""Classification, several labels or regression, as the data has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dltrain.contracts.attack import AttackScores
from dltrain.contracts.data import Batch, DataSpec, Draw, Streams
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Optimize, Phase, Predictions, Task
from dltrain.errors import UserError
from dltrain.tasks.classification import Classification
from dltrain.tasks.losses.classification import ClassWeights
from dltrain.tasks.losses.regression import NumberLoss
from dltrain.tasks.multilabel import HALF, Multilabel
from dltrain.tasks.regression import Regression


class Supervised(Task):
    """Classification where the target is a class, several labels, or regression of a number.

    For data whose kind is only known when it is looked at, such as anyone's own table. Arguments
    are those of :class:`~dltrain.tasks.classification.Classification` (``label_smoothing``,
    ``mirrored``, ``shifted``) and of :class:`~dltrain.tasks.multilabel.Multilabel` (``threshold``).

    Raises ValueError for one that is not of the task that the data has.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        focal_gamma: float = 0.0,
        mirrored: bool = False,
        shifted: int = 0,
        threshold: float | Mapping[str, float] = HALF,
        loss: NumberLoss | None = None,
    ) -> None:
        super().__init__()
        of_classes: dict[str, Any] = {
            "label_smoothing": label_smoothing,
            "class_weights": class_weights,
            "focal_gamma": focal_gamma,
            "mirrored": mirrored,
            "shifted": shifted,
        }
        kind = spec.target.kind
        _refuse_others(of_classes, threshold, loss, kind)
        self.task: Classification | Multilabel | Regression
        if kind == "class":
            self.task = Classification(model, spec, **of_classes)
        elif kind == "labels":
            self.task = Multilabel(model, spec, threshold)
        else:
            self.task = Regression(model, spec, loss)
        self.monitor, self.replayable = self.task.monitor, self.task.replayable

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of the task that fits the data, as all else."""
        return self.task.parameter_groups()

    def opened(self, streams: Streams) -> None:
        """Tell it of the data."""
        self.task.opened(streams)

    def enter(self, phase: Phase) -> None:
        """Tell it of the phase."""
        self.task.enter(phase)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Make its step."""
        return self.task.train_step(batch, optimize)

    def attack_scores(self, batch: Batch) -> AttackScores:
        """Those of a classification. Raises :class:`UserError` where it is none."""
        if not isinstance(self.task, Classification):
            raise UserError(f"attack: {type(self.task).__name__} has no classes to be mistaken in.")
        return self.task.attack_scores(batch)

    def forward(self, batch: Batch) -> Outputs:
        """Its outputs."""
        return self.task.forward(batch)

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """What its metrics need."""
        return self.task.eval_step(batch, draw)

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Its metrics."""
        return self.task.metrics(final)

    def predict(self, batch: Batch) -> Predictions:
        """Its predictions."""
        return self.task.predict(batch)

    def training_state(self) -> dict[str, Any]:
        """Its training state."""
        return self.task.training_state()

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Hand it over."""
        self.task.load_training_state(state)


def _refuse_others(
    of_classes: Mapping[str, Any],
    threshold: float | Mapping[str, float],
    loss: NumberLoss | None,
    kind: str,
) -> None:
    """Raise ValueError for what is set of another task than that of a target of ``kind``."""
    target = {"class": "classes", "labels": "labels"}.get(kind, "a number")
    for name, value in of_classes.items():
        if value and kind != "class":
            raise ValueError(f"{name} needs classes, and this data has {target} as target")
    if threshold != HALF and kind != "labels":
        raise ValueError(f"threshold needs labels, and this data has {target} as target")
    if loss is not None and kind in ("class", "labels"):
        raise ValueError(
            f"loss is of a regression, and this data has {target} as target; leave out task/loss"
        )
