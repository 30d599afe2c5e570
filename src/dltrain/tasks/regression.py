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
from dltrain.contracts.transforms import TRANSFORMS
from dltrain.metrics.regression import Errors, FirstPredictions, Fit, Scatter


class Regression(Task):
    """Mean squared error of outputs (batch, outputs) against targets of the same shape.

    Where the data tells the target's mean and std, the network learns targets of mean 0 and std 1,
    whatever their unit; outputs, predictions and every figure are in that unit again. So they are
    where it learns the targets' logarithms, as ``transform`` of the data's target may ask.

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
        self._transform = TRANSFORMS[target.transform] if target.transform else None
        self._has_unit = (self.target_mean, self.target_std) != (0.0, 1.0)

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        """Minimize the mean squared error of the batch."""
        outputs = self.model(batch["input"])
        loss = functional.mse_loss(outputs, self._learned(batch["target"]).to(outputs.dtype))
        optimize(loss)
        return {"loss": loss.detach() * self.target_std**2 if self._has_unit else loss.detach()}

    def forward(self, batch: Batch) -> Outputs:
        """``output`` (batch, outputs), in the target's unit."""
        return {"output": self._in_unit(self.model(batch["input"]))}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        """The same."""
        return self.forward(batch)

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
            {"prediction": self.forward(batch)["output"]},
            {"prediction": Field(target.shape, "number", names=target.names)},
        )

    def _learned(self, targets: Tensor) -> Tensor:
        """Targets as the network learns them."""
        if self._transform is not None:
            targets = self._transform.apply(targets.double())
        return (targets - self.target_mean) / self.target_std if self._has_unit else targets

    def _in_unit(self, outputs: Tensor) -> Tensor:
        """What the network says, in the target's unit; float64, where float32 would round it."""
        if self._has_unit:
            outputs = outputs.double() * self.target_std + self.target_mean
        if self._transform is not None:
            return self._transform.undo(outputs.double())
        return outputs if self._has_unit else outputs.float()

    def _output(self, inputs: Tensor) -> Tensor:
        return self.forward({"input": inputs})["output"]
