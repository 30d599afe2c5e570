"""How far an exported network is from the run that it was made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Field
from dltrain.contracts.task import Predictions
from dltrain.inference.network import Network

LIMIT = 1e-4
"""The largest difference with which a network is exported."""

Program = Callable[[Batch], list[Tensor]]
"""An exported network that was read back: inputs by name to outputs in order."""


def largest_difference(network: Network, program: Program) -> float:
    """Between ``program`` and the run, over all trials, columns and examples; NaN is infinite.

    Probabilities, pixels and codes differ by what they differ. A number in the target's unit is
    measured in the target's std, where the data tells one; any other, and boxes, in the largest of
    its column where that is above 1. Another class differs by what the run gives its own more,
    another label by 1.
    """
    found = 0.0
    for inputs, expected in network.trials():
        for (name, column), got in zip(expected.columns.items(), program(inputs), strict=True):
            found = max(found, _difference(expected, name, column, got))
    return found


def _difference(expected: Predictions, name: str, column: Tensor, got: Tensor) -> float:
    if got.shape != column.shape or got.dtype != column.dtype:
        return float("inf")
    if not column.is_floating_point():
        return _apart(expected, name, got)
    apart = (got.double() - column.double()).abs() / unit(expected.fields[name], column.double())
    # What is not a number here has to be none there.
    apart = apart.where(~(got.isnan() & column.isnan()) & (got != column), 0.0)
    return float(apart.nan_to_num(float("inf")).max()) if apart.numel() else 0.0


def _apart(expected: Predictions, name: str, got: Tensor) -> float:
    """By how much the run prefers its own class to ``got``, (rows,); 1 where no column tells."""
    column, field = expected.columns[name], expected.fields[name]
    other = got != column
    if not other.any():
        return 0.0
    for scores, about in expected.fields.items():
        of_classes = field.kind in ("class", "mask") and about.names == field.names
        if of_classes and about.kind == "number":
            # Classes are the second axis; of masks, pixels follow.
            values = expected.columns[scores].double()
            if values.ndim != column.ndim + 1 or ((got < 0) | (got >= values.shape[1])).any():
                return 1.0
            both = values.gather(1, torch.stack([column, got], 1))
            return float((both[:, 0] - both[:, 1]).max())
    return 1.0


def unit(field: Field, column: Tensor) -> Tensor:
    """What a difference of this column (rows, …), float64, is measured in."""
    if field.kind not in ("number", "boxes"):
        return torch.ones(())
    if not field.std:
        finite = column[column.isfinite()].abs()
        return finite.amax().clamp_min(1.0) if finite.numel() else torch.ones(())
    std = torch.tensor(field.std, dtype=torch.float64)
    if field.transform is None:
        return std
    return std * _SLOPES[field.transform](column)


_SLOPES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "log": torch.abs,
    "log1p": lambda column: (column + 1).abs(),
}
"""By how much a number moves where its transform moves by 1."""
