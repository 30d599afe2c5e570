"""Predict numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.metrics import r_squared
from dltrain.types import Batch, Evaluation, Metrics, Monitor, Optimize, Table, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 16


class Regression(Task):
    """Mean squared error of outputs (batch, outputs) against targets of the same shape."""

    monitor = Monitor("loss", "min")

    def __init__(self, model: nn.Module, class_names: Sequence[str] | None = None) -> None:
        super().__init__()
        if class_names is not None:
            raise ValueError("regression predicts numbers, but this data's targets are classes")
        self.model = model

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimise the mean squared error of the batch."""
        loss = functional.mse_loss(self.model(batch["input"]), batch["target"])
        optimize(loss)
        return {"loss": loss.detach()}

    def predict(self, batch: Batch) -> Tensor:
        """Outputs (batch, outputs)."""
        return self.model(batch["input"])

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """MSE, MAE and R² over the whole split."""
        pairs = [(self.predict(batch).float(), batch["target"]) for batch in batches]
        predictions = torch.cat([prediction for prediction, _ in pairs]).cpu()
        targets = torch.cat([target for _, target in pairs]).cpu()
        errors = (predictions - targets).double()
        mse = float(errors.square().mean())

        def draw() -> Figure:
            from dltrain.figures.numbers import draw_predicted_against_true

            return draw_predicted_against_true(predictions.numpy(), targets.numpy())

        rows = zip(
            targets[:SAMPLES].flatten(1).tolist(),
            predictions[:SAMPLES].flatten(1).tolist(),
            strict=True,
        )
        shown = [(", ".join(map(_short, t)), ", ".join(map(_short, p))) for t, p in rows]
        return Evaluation(
            scalars={
                "loss": mse,
                "mse": mse,
                "mae": float(errors.abs().mean()),
                "r2": r_squared(predictions, targets),
            },
            tables={"predictions": Table(("target", "prediction"), shown)},
            figures={"predicted_against_true": draw},
        )


def _short(value: float) -> str:
    return f"{value:.6g}"
