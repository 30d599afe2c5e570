"""Predict numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec, Draw, Field
from dltrain.contracts.metric import Metric, Outputs
from dltrain.contracts.task import Metrics, Monitor, Optimize, Predictions, Task
from dltrain.metrics.regression import Errors, FirstPredictions, Fit, Scatter


class Regression(Task):
    """Mean squared error of outputs (batch, outputs) against targets of the same shape.

    Where the data tells the target's mean and std, the network learns targets of mean 0 and std 1,
    whatever their unit; outputs, predictions and every figure are in that unit again.

    Raises ValueError for targets that are no numbers, or that have several means.
    """

    monitor = Monitor("loss", "min")
    replayable = True

    def __init__(self, model: nn.Module, spec: DataSpec) -> None:
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
        self.target_mean = target.mean[0] if target.mean else 0.0
        self.target_std = target.std[0] if target.std else 1.0
        self._has_unit = (self.target_mean, self.target_std) != (0.0, 1.0)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean squared error of the batch."""
        targets = batch["target"]
        if self._has_unit:
            targets = (targets - self.target_mean) / self.target_std
        loss = functional.mse_loss(self.model(batch["input"]), targets)
        optimize(loss)
        return {"loss": loss.detach() * self.target_std**2 if self._has_unit else loss.detach()}

    def forward(self, batch: Batch) -> Outputs:
        """``output`` (batch, outputs), in the target's unit."""
        outputs = self.model(batch["input"])
        return {
            "output": outputs * self.target_std + self.target_mean if self._has_unit else outputs
        }

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """The same in float32."""
        return {"output": self.forward(batch)["output"].float()}

    def metrics(self, final: bool) -> Sequence[Metric]:
        """MSE, MAE and R², predictions beside targets, and the curve of a single feature."""
        metrics: list[Metric] = [Errors(), FirstPredictions(), Scatter()]
        facts = self.spec.facts()
        if facts.get("outputs") == 1 and math.prod(facts.get("input_shape", (0,))) == 1:
            name = (*self.spec.input.names, "feature")[0]
            metrics.append(Fit(name, self._output))
        return metrics

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predictions:
        """``prediction`` (batch, outputs), in the target's unit."""
        target = self.spec.target
        return Predictions(
            {"prediction": self.forward(batch)["output"].float()},
            {"prediction": Field(target.shape, "number", names=target.names)},
        )

    def _output(self, inputs: Tensor) -> Tensor:
        return self.forward({"input": inputs})["output"]
