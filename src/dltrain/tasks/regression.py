"""Predict numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.metrics import r_squared
from dltrain.types import Batch, Evaluation, Metrics, Monitor, Optimize, Table, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 16
PLACES = 200
"""How finely the range of a single feature is looked at."""


class Regression(Task):
    """Mean squared error of outputs (batch, outputs) against targets of the same shape.

    Where the data tells ``target_mean`` and ``target_std``, the network learns targets of mean 0
    and deviation 1, whatever their unit; predictions and every figure are in that unit again.
    """

    monitor = Monitor("loss", "min")
    recordable = True

    def __init__(
        self,
        model: nn.Module,
        class_names: Sequence[str] | None = None,
        feature_names: Sequence[str] | None = None,
        target_mean: float = 0.0,
        target_std: float = 1.0,
    ) -> None:
        super().__init__()
        if class_names is not None:
            raise ValueError("regression predicts numbers, but this data's targets are classes")
        self.model = model
        self.feature_names = feature_names
        self.target_mean, self.target_std = target_mean, target_std
        self._has_unit = (target_mean, target_std) != (0.0, 1.0)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimise the mean squared error of the batch."""
        targets = batch["target"]
        if self._has_unit:
            targets = (targets - self.target_mean) / self.target_std
        loss = functional.mse_loss(self.model(batch["input"]), targets)
        optimize(loss)
        return {"loss": loss.detach() * self.target_std**2 if self._has_unit else loss.detach()}

    def predict(self, batch: Batch) -> Tensor:
        """Outputs (batch, outputs), in the targets' unit."""
        outputs = self.model(batch["input"])
        return outputs * self.target_std + self.target_mean if self._has_unit else outputs

    def evaluate(self, batches: Iterable[Batch]) -> Evaluation:
        """MSE, MAE and R² over the whole split."""
        answers: list[Tensor] = []
        truths: list[Tensor] = []
        features: list[Tensor] = []
        for batch in batches:
            inputs, target = batch["input"], batch["target"]
            answers.append(self.predict(batch).float())
            truths.append(target)
            if inputs[0].numel() == target[0].numel() == 1:
                features.append(inputs)
        predictions, targets = torch.cat(answers).cpu(), torch.cat(truths).cpu()
        errors = (predictions - targets).double()
        mse = float(errors.square().mean())

        figures: dict[str, Callable[[], Figure]] = {
            "predicted_against_true": partial(_draw_predicted, predictions, targets),
            "residuals": partial(_draw_residuals, predictions, targets),
        }
        if features:
            figures["fit"] = self._fit(torch.cat(features), targets)
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
            figures=figures,
        )

    def _fit(self, inputs: Tensor, targets: Tensor) -> Callable[[], Figure]:
        """Ask the network between the examples of one feature, now, and draw it later."""
        low, high = inputs.aminmax()
        shares = torch.linspace(0, 1, PLACES, device=inputs.device).view(-1, *inputs[:1].shape[1:])
        places = (low + shares * (high - low)).to(inputs)
        fitted = self.predict({"input": places}).float()
        columns = (inputs.flatten().cpu(), targets.flatten(), places.flatten().cpu())
        name = self.feature_names[0] if self.feature_names else "feature"
        return partial(_draw_fit, *columns, fitted.flatten().cpu(), name)


def _draw_predicted(predictions: Tensor, targets: Tensor) -> Figure:
    from dltrain.figures.numbers import draw_predicted_against_true

    return draw_predicted_against_true(predictions.numpy(), targets.numpy())


def _draw_residuals(predictions: Tensor, targets: Tensor) -> Figure:
    from dltrain.figures.numbers import draw_residuals

    return draw_residuals(predictions.numpy(), targets.numpy())


def _draw_fit(inputs: Tensor, targets: Tensor, places: Tensor, fitted: Tensor, name: str) -> Figure:
    from dltrain.figures.numbers import draw_fit

    return draw_fit(inputs.numpy(), targets.numpy(), places.numpy(), fitted.numpy(), name)


def _short(value: float) -> str:
    return f"{value:.6g}"
