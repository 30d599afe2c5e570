"""What forecasts are evaluated by: errors of each step ahead, beside those of naive forecasts.

The metrics read ``scaled`` (batch, horizon, targets) of the outputs, and of the batch ``input``
(batch, history, series), whose first series are the targets, and ``target``, in their own unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, DataSpec
from dltrain.contracts.metric import Evaluation, Mode, Outputs, Table
from dltrain.metrics.accumulators import AccumulatorMetric, Sum, TopK, double, spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WINDOWS = 4
"""Windows that are drawn."""
NETWORK, NAIVE, SEASONAL = "network", "naive", "seasonal_naive"


class Scale:
    """Brings targets (…, targets) to mean 0 and std 1 in training, in float64, and back."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self._mean, self._std = list(mean), list(std)
        self._there: dict[torch.device, tuple[Tensor, Tensor]] = {}

    @classmethod
    def of(cls, spec: DataSpec) -> Scale:
        """That of the target of ``spec``."""
        target = spec.target
        return cls(target.mean or (0.0,), target.std or (1.0,))

    def apply(self, values: Tensor) -> Tensor:
        """To mean 0 and std 1."""
        values = double(values)
        mean, std = self._on(values.device)
        return (values - mean) / std

    def undo(self, values: Tensor) -> Tensor:
        """To the targets' own unit."""
        values = double(values)
        mean, std = self._on(values.device)
        return values * std + mean

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and std on a device, copied once: a step waits for nothing."""
        if device not in self._there:
            with torch.inference_mode(False):  # training may be next
                sides = (
                    torch.tensor(side, dtype=torch.float64, device=device)
                    for side in (self._mean, self._std)
                )
                self._there[device] = (next(sides), next(sides))
        return self._there[device]


def naive(history: Tensor, horizon: int) -> Tensor:
    """The last value of ``history`` (batch, time, targets) again and again."""
    return history[:, -1:].expand(-1, horizon, -1)


def seasonal_naive(history: Tensor, horizon: int, period: int) -> Tensor:
    """The last ``period`` steps of ``history`` (batch, time, targets) again and again."""
    places = torch.arange(horizon, device=history.device) % period
    return history[:, -period:].index_select(1, places)


class ForecastErrors(AccumulatorMetric):
    """Squared and absolute errors of scaled series, by the step ahead and by the series.

    Beside the network's stand those of the naive forecast, the last value, and, where ``period``
    fits the history, of the seasonal naive one. With ``compared`` they are scalars, too, and where
    the network is no better than one of them there is a warning.
    """

    names = ("mse", "mae")
    better: Mapping[str, Mode] = {"mse": "min", "mae": "min"}

    def __init__(self, spec: DataSpec, compared: bool = False) -> None:
        target, history = spec.target, spec.input.shape[0] or 0
        self._series = target.names
        self._scale, self._compared = Scale.of(spec), compared
        fits = target.period is not None and target.period <= history
        self._period = target.period if fits else None
        self._methods = [NETWORK, NAIVE, *([SEASONAL] if fits else [])]
        self._sums = Sum()
        super().__init__(sums=self._sums)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Add a batch's errors, (2, methods, horizon, targets)."""
        truth = self._scale.apply(batch["target"])
        horizon, targets = truth.shape[1:]
        history = double(batch["input"][..., :targets])
        forecasts = [double(outputs["scaled"]), naive(history, horizon)]
        if self._period is not None:
            forecasts.append(seasonal_naive(history, horizon, self._period))
        errors = torch.stack(forecasts) - truth
        both = torch.stack((errors.square().sum(1), errors.abs().sum(1)))
        self._sums.add(both, len(rows))

    def compute(self) -> Evaluation:
        """Means over all; tables by step and by series; a figure of the errors ahead."""
        means = (self._sums.value / self._sums.examples).cpu()
        overall = means.mean((2, 3)).tolist()
        count = self._sums.examples * means.shape[2] * means.shape[3]
        mse, mae = overall[0][0], overall[1][0]
        scalars, warnings = {"mse": mse, "mae": mae}, []
        if self._compared:
            for number, method in enumerate(self._methods[1:], 1):
                scalars[f"baseline_{method}_mse"] = overall[0][number]
                scalars[f"baseline_{method}_mae"] = overall[1][number]
            unbeaten = [
                f"the {method.replace('_', ' ')} forecast ({other:.4g})"
                for method, other in zip(self._methods[1:], overall[0][1:], strict=True)
                if not mse < other
            ]
            if unbeaten:
                warnings = [
                    f"This network (MSE {mse:.4g}) is no better than {', '.join(unbeaten)}."
                ]
        by_step, by_series = means.mean(3), means.mean(2)
        return Evaluation(
            scalars=scalars,
            tables={
                "horizon": self._table("step", range(1, by_step.shape[2] + 1), by_step),
                "series": self._table("series", self._names(by_series.shape[2]), by_series),
            },
            figures={"errors_by_step": partial(_draw_errors, self._methods, by_step[0])},
            weights={"mse": count, "mae": count},
            warnings=warnings,
        )

    def _names(self, count: int) -> list[str]:
        return list(self._series) or [str(number) for number in range(count)]

    def _table(self, head: str, names: range | list[str], means: Tensor) -> Table:
        """``means`` (2, methods, rows) as a table of as many rows."""
        columns = [
            measure if method == NETWORK else f"{method}_{measure}"
            for measure in ("mse", "mae")
            for method in self._methods
        ]
        values = means.flatten(0, 1).T.tolist()
        rows = [(name, *row) for name, row in zip(names, values, strict=True)]
        return Table((head, *columns), rows)


class SeriesErrors(AccumulatorMetric):
    """Root mean squared and mean absolute error of each series, in its own unit."""

    def __init__(self, spec: DataSpec) -> None:
        self._series = spec.target.names
        self._sums = Sum()
        super().__init__(sums=self._sums)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Add a batch's errors, (2, targets)."""
        errors = double(outputs["output"]) - double(batch["target"])
        both = torch.stack((errors.square().mean(1).sum(0), errors.abs().mean(1).sum(0)))
        self._sums.add(both, len(rows))

    def compute(self) -> Evaluation:
        """A table."""
        squared, absolute = (self._sums.value / self._sums.examples).tolist()
        names = list(self._series) or [str(number) for number in range(len(squared))]
        rows = [
            (name, math.sqrt(one), other)
            for name, one, other in zip(names, squared, absolute, strict=True)
        ]
        return Evaluation(tables={"units": Table(("series", "rmse", "mae"), rows)})


class ForecastWindows(AccumulatorMetric):
    """A figure of some windows, spread over the split: history, forecast and what followed."""

    def __init__(self, spec: DataSpec) -> None:
        self._names, self._scale = spec.target.names, Scale.of(spec)
        self._top = TopK(WINDOWS)
        super().__init__(top=self._top)

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        """Look through a batch."""
        targets = batch["target"].shape[2]
        history = self._scale.undo(batch["input"][..., :targets])
        columns = (history.float(), batch["target"].float(), outputs["output"].float())
        self._top.add(spread(rows), rows, *columns)

    def compute(self) -> Evaluation:
        """The figure."""
        rows, *columns = self._top.found()
        order = rows.argsort()
        chosen = [column[order] for column in columns]
        draw: Callable[[], Figure] = partial(_draw_windows, chosen, self._names)
        return Evaluation(figures={"forecasts": draw})


def _draw_errors(methods: list[str], errors: Tensor) -> Figure:
    from dltrain.reports.forecasts import draw_errors_by_step

    named = {method.replace("_", " "): errors[n].numpy() for n, method in enumerate(methods)}
    return draw_errors_by_step(named)


def _draw_windows(columns: list[Tensor], names: tuple[str, ...]) -> Figure:
    from dltrain.reports.forecasts import draw_forecasts

    history, truth, forecast = (column.numpy() for column in columns)
    return draw_forecasts(history, truth, forecast, names)
