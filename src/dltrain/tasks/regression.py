"""Predict numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Draw
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Monitor, Optimize, Predictions, Task
from dltrain.contracts.transforms import TRANSFORMS
from dltrain.metrics.accumulators import double, widest
from dltrain.metrics.examples import PerExample
from dltrain.metrics.mean import Mean
from dltrain.metrics.regression import Errors, FirstPredictions, Fit, Scatter
from dltrain.tasks.losses.regression import NumberLoss, SquaredError


class Regression(Task):
    """Outputs (batch, outputs) against targets of the same shape; by default their squared error.

    Where the data tells the target's mean and std, the network learns targets of mean 0 and std 1,
    whatever their unit; outputs, predictions and every figure are in that unit again, in float64:
    beside a large mean, float32 would round what was learned away. For the same reason a network
    is evaluated outside autocast, whatever the precision it trains in. So are those of a network
    that learns the targets' logarithms, as ``transform`` of the data's target may ask.

    ``loss`` null is the mean squared error. It acts on the scaled numbers, and is reported in the
    target's unit.

    Raises ValueError for targets that are no numbers, or that have several means.
    """

    monitor = Monitor("loss", "min")
    replayable = True

    def __init__(self, model: nn.Module, spec: DataSpec, loss: NumberLoss | None = None) -> None:
        super().__init__()
        target = spec.target
        if target.kind != "number":
            raise ValueError(
                "regression predicts numbers, and this data's target is of another kind: "
                f"{target.kind}"
            )
        if max(len(target.mean), len(target.std)) > 1:
            raise ValueError("regression takes one mean and one std for all numbers of a target")
        self.model = model
        self.spec = spec
        self.loss = loss or SquaredError()
        mean, std = (*target.mean, 0.0)[0], (*target.std, 1.0)[0]
        self.offset, self.scale = self.loss.unit(mean, std)
        self._transform = TRANSFORMS[target.transform] if target.transform else None
        self._has_unit = (self.offset, self.scale) != (0.0, 1.0)
        self._loss_unit = self.scale**self.loss.degree

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean loss of the batch."""
        targets = self._learned(batch["target"]).float()
        loss = self.loss.mean(self.model(*self.spec.inputs(batch)).float(), targets)
        optimize(self._objective(loss, batch))
        loss = loss.detach()
        return {"loss": widest(loss) * self._loss_unit if self._has_unit else loss}

    def _objective(self, loss: Tensor, batch: Batch) -> Tensor:
        """What is minimized; ``loss`` is what is reported."""
        return loss

    def forward(self, batch: Batch) -> Outputs:
        """``output`` (batch, outputs), in the target's unit."""
        return {"output": self._in_unit(self.model(*self.spec.inputs(batch)))}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """The same, and ``scaled`` as the network has it; in full precision."""
        inputs = self.spec.inputs(batch)
        with torch.autocast(inputs[0].device.type, enabled=False):
            scaled = self.model(*inputs).float()
        return {"output": self._in_unit(scaled), "scaled": scaled}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """Loss, MSE, RMSE, MAE and R², predictions beside targets, the curve of one feature."""
        metrics: list[Metric] = [
            Mean("loss", self._evaluation_loss),
            Errors(),
            FirstPredictions(),
            Scatter(),
        ]
        facts = self.spec.facts()
        if facts.get("outputs") == 1 and math.prod(facts.get("input_shape", (0,))) == 1:
            name = (*self.spec.input.names, "feature")[0]
            metrics.append(Fit(name, self._predictions))
        if final:
            columns = {"loss": self._example_losses, "mse": _squared, "mae": _absolute}
            metrics.append(PerExample(columns))
        return metrics

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``prediction`` (batch, outputs), in the target's unit."""
        values = {"prediction": self._predictions(*self.spec.inputs(batch))}
        return Predictions(values, {"prediction": replace(self.spec.target, role="other")})

    def _predictions(self, *inputs: Tensor) -> Tensor:
        """Outputs in the target's unit, as an evaluation has them."""
        if not torch.is_autocast_enabled(inputs[0].device.type):
            # torch.export cannot save a program that switches it off around a loop.
            return self._in_unit(self.model(*inputs))
        with torch.autocast(inputs[0].device.type, enabled=False):
            return self._in_unit(self.model(*inputs))

    def _learned(self, targets: Tensor) -> Tensor:
        """Targets as the network learns them."""
        if self._transform is not None:
            targets = self._transform.apply(double(targets))
        return (targets - self.offset) / self.scale if self._has_unit else targets

    def _in_unit(self, outputs: Tensor) -> Tensor:
        values = self.loss.answer(outputs.float())
        if self._has_unit:
            values = double(values) * self.scale + self.offset
        return values if self._transform is None else self._transform.undo(double(values))

    def _evaluation_loss(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The sum over a batch of each example's mean loss, 0-d, in the unit of what is learned."""
        return self._scaled_losses(outputs, batch).sum() * self._loss_unit

    def _example_losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        return self._scaled_losses(outputs, batch) * self._loss_unit

    def _scaled_losses(self, outputs: Outputs, batch: Batch) -> Tensor:
        """The mean loss of each example (batch,), of scaled numbers."""
        targets = self._learned(double(batch["target"]))
        return self.loss(double(outputs["scaled"]), targets).flatten(1).mean(1)


def _squared(outputs: Outputs, batch: Batch) -> Tensor:
    return _errors(outputs, batch).square().mean(1)


def _absolute(outputs: Outputs, batch: Batch) -> Tensor:
    return _errors(outputs, batch).abs().mean(1)


def _errors(outputs: Outputs, batch: Batch) -> Tensor:
    """(batch, outputs), in float64."""
    return (double(outputs["output"]) - double(batch["target"])).flatten(1)
