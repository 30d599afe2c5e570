"""Classification or regression, as the data has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dltrain.contracts.data import Batch, DataSpec, Draw
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Optimize, Phase, Predictions, Task
from dltrain.tasks.classification import Classification
from dltrain.tasks.losses.classification import ClassWeights
from dltrain.tasks.losses.regression import NumberLoss
from dltrain.tasks.regression import Regression


class Supervised(Task):
    """Classification where the target is a class, regression where it is a number.

    For data whose kind is only known when it is looked at, such as anyone's own table.

    Raises ValueError for what is set of classes where the data has a number, and the other way.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        label_smoothing: float = 0.0,
        class_weights: ClassWeights = None,
        focal_gamma: float = 0.0,
        loss: NumberLoss | None = None,
    ) -> None:
        super().__init__()
        self.task: Classification | Regression
        of_classes: dict[str, Any] = {
            "label_smoothing": label_smoothing,
            "class_weights": class_weights,
            "focal_gamma": focal_gamma,
        }
        if spec.target.kind == "class":
            if loss is not None:
                raise ValueError(
                    "loss is of a regression, and this data has classes as target; leave out "
                    "task/loss"
                )
            self.task = Classification(model, spec, **of_classes)
        else:
            for name, value in of_classes.items():
                if value:
                    raise ValueError(f"{name} needs classes, and this data has a number as target")
            self.task = Regression(model, spec, loss)
        self.monitor, self.replayable = self.task.monitor, self.task.replayable

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Those of the task that fits the data, as all else."""
        return self.task.parameter_groups()

    def enter(self, phase: Phase) -> None:
        """Tell it of the phase."""
        self.task.enter(phase)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Make its step."""
        return self.task.train_step(batch, optimize)

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
