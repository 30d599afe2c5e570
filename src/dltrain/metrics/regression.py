"""What predicted numbers are evaluated by: errors, and how they lie beside the true ones.

The metrics read ``output`` (batch, ...) of the outputs, and ``input`` (batch, ...) and ``target``,
of the same shape as ``output``, of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Evaluation, Mode, Outputs, Table
from dltrain.metrics.accumulators import AccumulatorMetric, Everything, First, Moments, Sum, double

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLES = 16
"""Examples that are shown."""
PLACES = 200
"""How finely the range of a single feature is looked at."""
ROUNDING = 1e-6
"""Errors of a float32, as a fraction of what is predicted."""
MOST_DIGITS = 15
"""Significant digits that every float64 has."""


def r_squared(residual: Tensor, total: Tensor) -> float:
    """The coefficient of determination, 1 - residual / total, averaged over the outputs.

    ``residual`` (outputs,) is the sum of squared errors, ``total`` (outputs,) that of the targets'
    squared deviations from their mean. Where the targets do not vary it is 1 for a perfect
    prediction and 0 otherwise.
    """
    perfect = (residual == 0).double()
    return float(torch.where(total > 0, 1 - residual / total.clamp_min(1e-300), perfect).mean())


class Errors(AccumulatorMetric):
    """Mean squared error, its root, mean absolute error and R², from sums in float64."""

    names = ("mse", "rmse", "mae", "r2")
    better: Mapping[str, Mode] = {"mse": "min", "rmse": "min", "mae": "min", "r2": "max"}

    def __init__(self) -> None:
        self._sums, self._residual, self._targets = Sum(), Sum(), Moments()
        super().__init__(sums=self._sums, residual=self._residual, targets=self._targets)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        predictions, targets = (
            double(side).flatten(1) for side in (outputs["output"], batch["target"])
        )
        errors = predictions - targets
        self._sums.add(torch.stack((errors.square().sum(), errors.abs().sum())), errors.numel())
        self._residual.add(errors.square().sum(0), len(rows))
        self._targets.add(targets)

    def compute(self) -> Evaluation:
        mse, mae = (self._sums.value / self._sums.examples).tolist()
        r2 = r_squared(self._residual.value, self._targets.squared_deviations)
        return Evaluation(
            scalars={"mse": mse, "rmse": math.sqrt(mse), "mae": mae, "r2": r2},
            weights={"mse": self._sums.examples, "mae": self._sums.examples},
        )


class FirstPredictions(AccumulatorMetric):
    """A table of the first examples' targets and predictions."""

    def __init__(self) -> None:
        self._first = First(SAMPLES)
        super().__init__(first=self._first)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        self._first.add(rows, batch["target"], outputs["output"])

    def compute(self) -> Evaluation:
        columns = [double(column).flatten(1) for column in self._first.found()]
        digits = [
            _digits(torch.cat(both)) for both in zip(*(c.unbind(1) for c in columns), strict=True)
        ]
        rows = [
            tuple(
                ", ".join(f"{x:.{n}g}" for x, n in zip(side, digits, strict=True)) for side in pair
            )
            for pair in zip(*(column.tolist() for column in columns), strict=True)
        ]
        return Evaluation(tables={"predictions": Table(("target", "prediction"), rows)})


def _digits(values: Tensor) -> int:
    """How many significant digits tell ``values`` (n,) apart to a millionth of their range."""
    low, high = values.aminmax()
    largest, spread = float(values.abs().max()), float(high - low)
    if not (math.isfinite(largest) and spread > 0):
        return MOST_DIGITS
    return min(6 + max(0, math.ceil(math.log10(largest / spread))), MOST_DIGITS)


class Scatter(AccumulatorMetric):
    """Predictions against targets, and what they leave over. It keeps all of both."""

    def __init__(self) -> None:
        self._all = Everything()
        super().__init__(all=self._all)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        self._all.add(rows, outputs["output"], batch["target"])

    def compute(self) -> Evaluation:
        """A figure of each; none of residuals where there are but rounding errors."""
        predictions, targets = (column.cpu() for column in self._all.found())
        figures: dict[str, Callable[[], Figure]] = {
            "predicted_against_true": partial(_draw_predicted, predictions, targets)
        }
        rounding = ROUNDING * float(targets.abs().max())
        if float((targets - predictions).abs().nan_to_num().max()) > rounding:
            figures["residuals"] = partial(_draw_residuals, predictions, targets)
        return Evaluation(figures=figures)


class Fit(AccumulatorMetric):
    """The curve from a single feature to a single number, and the examples beside it.

    ``ask`` gives outputs (n, 1) for inputs (n, ...); it is asked once, in :meth:`compute`.
    """

    def __init__(self, feature_name: str, ask: Callable[[Tensor], Tensor]) -> None:
        self._name, self._ask = feature_name, ask
        self._all = Everything()
        super().__init__(all=self._all)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        self._all.add(rows, batch["input"], batch["target"])

    def compute(self) -> Evaluation:
        """A figure of the curve over the range of the examples."""
        inputs, targets = self._all.found()
        low, high = inputs.aminmax()
        fractions = torch.linspace(0, 1, PLACES, device=inputs.device)
        places = (low + fractions.view(-1, *inputs[:1].shape[1:]) * (high - low)).to(inputs)
        columns = [inputs, targets, places, self._ask(places)]
        columns = [column.flatten().cpu() for column in columns]
        return Evaluation(figures={"fit": partial(_draw_fit, columns, self._name)})


def _draw_predicted(predictions: Tensor, targets: Tensor) -> Figure:
    from dltrain.reports.numbers import draw_predicted_against_true

    return draw_predicted_against_true(predictions.numpy(), targets.numpy())


def _draw_residuals(predictions: Tensor, targets: Tensor) -> Figure:
    from dltrain.reports.numbers import draw_residuals

    return draw_residuals(predictions.numpy(), targets.numpy())


def _draw_fit(columns: Sequence[Tensor], name: str) -> Figure:
    from dltrain.reports.numbers import draw_fit

    inputs, targets, places, fitted = (column.numpy() for column in columns)
    return draw_fit(inputs, targets, places, fitted, name)
