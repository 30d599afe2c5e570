"""Forecast series from what was before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Draw
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Monitor, Optimize, Predictions, Task
from dltrain.metrics.accumulators import double
from dltrain.metrics.examples import PerExample
from dltrain.metrics.forecasting import (
    ForecastErrors,
    ForecastWindows,
    Scale,
    SeriesErrors,
)
from dltrain.metrics.mean import Mean
from dltrain.tasks.losses.regression import NumberLoss, SquaredError

Level = Literal["last", "mean"]


class Forecasting(Task):
    """Histories (batch, history, series) to the next steps (batch, horizon, targets).

    The first series are the targets. The network gives horizon * targets numbers, for targets of
    mean 0 and std 1 in training: so are losses, MSE and MAE, as forecasts are compared in the
    literature; predictions are in the series' units. ``level`` is what is subtracted from each
    series of a history before the network reads it, and added to the forecast: its ``last`` value
    (as NLinear has it: Zeng et al. 2023, arXiv:2205.13504) or its ``mean``. None: nothing. ``loss``
    null is the mean squared error.

    Raises ValueError for data that are no such series, and for losses of anything but scaled
    numbers.
    """

    monitor = Monitor("mse", "min")
    replayable = True

    def __init__(
        self,
        model: nn.Module,
        spec: DataSpec,
        loss: NumberLoss | None = None,
        level: Level | None = None,
    ) -> None:
        super().__init__()
        source, target = spec.input, spec.target
        shapes = len(source.shape), len(target.shape)
        if (source.kind, target.kind) != ("number", "number") or shapes != (2, 2):
            raise ValueError(
                "forecasting continues series, as data=series has them; this data's input is "
                f"{source.kind} and its target {target.kind}"
            )
        if source.names[: len(target.names)] != target.names:
            raise ValueError("forecasting reads the past of what it forecasts as its first series")
        self.model, self.spec, self.level = model, spec, level
        self.loss = loss or SquaredError()
        if self.loss.unit(1.0, 2.0) != (1.0, 2.0):
            raise ValueError("loss: it is of numbers that are not scaled; take mse, mae or huber")
        self.scale = Scale.of(spec)
        self.shape = tuple(side or 0 for side in target.shape)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean loss of the batch."""
        targets = self.scale.apply(batch["target"]).float().to(batch["input"].device)
        loss = self.loss.mean(self._scaled(batch["input"]).float(), targets)
        optimize(loss)
        return {"loss": loss.detach()}

    def forward(self, batch: Batch) -> Outputs:
        """``output`` (batch, horizon, targets), in the series' units, and ``scaled``."""
        scaled = self._scaled(batch["input"]).float()
        return {"output": self.scale.undo(scaled), "scaled": scaled}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """The same in full precision."""
        with torch.autocast(batch["input"].device.type, enabled=False):
            return self.forward(batch)

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Errors by step and by series, beside naive forecasts; some windows to look at."""
        metrics: list[Metric] = [
            Mean("loss", lambda outputs, batch: self._losses(outputs, batch).sum()),
            ForecastErrors(self.spec, compared=final),
            SeriesErrors(self.spec),
            ForecastWindows(self.spec),
        ]
        if final:
            metrics.append(
                PerExample({"loss": self._losses, "mse": self._squared, "mae": self._absolute})
            )
        return metrics

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``prediction`` (batch, horizon, targets), in their units; ``time`` where it is known."""
        values = {"prediction": self.forward(batch)["output"]}
        fields = {"prediction": replace(self.spec.target, role="other")}
        if "time" in batch:
            values["time"], fields["time"] = batch["time"], self.spec.fields["time"]
        return Predictions(values, fields)

    def _scaled(self, inputs: Tensor) -> Tensor:
        """The network's answer, with the level that was taken from its input."""
        if self.level is None:
            return self.model(inputs).unflatten(1, self.shape)
        level = inputs[:, -1:] if self.level == "last" else inputs.mean(1, keepdim=True)
        ahead: Tensor = self.model(inputs - level).unflatten(1, self.shape)
        return ahead + level[..., : self.shape[1]]

    def _errors(self, outputs: Outputs, batch: Batch) -> Tensor:
        return (double(outputs["scaled"]) - self.scale.apply(batch["target"])).flatten(1)

    def _squared(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self._errors(outputs, batch).square().mean(1)

    def _absolute(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self._errors(outputs, batch).abs().mean(1)

    def _losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The mean loss of each example (batch,)."""
        targets = self.scale.apply(batch["target"])
        return self.loss(double(outputs["scaled"]), targets).flatten(1).mean(1)
