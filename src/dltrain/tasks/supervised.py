"""Classification or regression, as the data has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from dltrain.tasks.classification import Classification
from dltrain.tasks.regression import Regression
from dltrain.types import Batch, Evaluation, Metrics, Optimize, Task


class Supervised(Task):
    """Classification where the data names classes, regression where it does not.

    For data whose kind is only known when it is looked at, such as anyone's own table.
    """

    def __init__(
        self,
        model: nn.Module,
        class_names: Sequence[str] | None = None,
        label_smoothing: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        feature_names: Sequence[str] | None = None,
        target_mean: float = 0.0,
        target_std: float = 1.0,
    ) -> None:
        super().__init__()
        self.task: Task
        if class_names is not None:
            self.task = Classification(
                model, class_names, label_smoothing, mean, std, feature_names
            )
        elif label_smoothing:
            raise ValueError("label_smoothing needs classes, and this data has a number as target")
        else:
            self.task = Regression(model, None, feature_names, target_mean, target_std)
        self.monitor, self.recordable = self.task.monitor, self.task.recordable

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """As the task that fits the data."""
        return self.task.train_step(batch, optimize)

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """As the task that fits the data."""
        return self.task.evaluate(batches)

    def predict(self, batch: Batch) -> Tensor:
        """As the task that fits the data."""
        return self.task.predict(batch)
