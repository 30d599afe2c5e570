"""Windows of a series as batches: a history, and the steps that follow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.data.streams.in_memory import Batching, FixedSizeStream, Order


@dataclass(frozen=True)
class Lengths:
    """Steps that are read, and steps that are forecast."""

    history: int
    horizon: int

    @property
    def window(self) -> int:
        """Both."""
        return self.history + self.horizon


def starts_of(
    usable: NDArray[np.bool_], forecast: NDArray[np.bool_], lengths: Lengths, low: int, high: int
) -> NDArray[np.int64]:
    """Where windows begin whose horizons lie within steps ``low`` to below ``high``.

    All of a window is ``usable`` (steps,), and all of its horizon may be ``forecast``.
    """
    first, last = max(0, low - lengths.history), high - lengths.window
    if last < first:
        return np.empty(0, np.int64)
    starts = np.arange(first, last + 1)
    whole = _whole(usable, starts, lengths.window)
    whole &= _whole(forecast, starts + lengths.history, lengths.horizon)
    return starts[whole]


def _whole(good: NDArray[np.bool_], starts: NDArray[np.int64], length: int) -> NDArray[np.bool_]:
    """Whether the ``length`` steps from each start on are all good."""
    bad = np.append(0, np.cumsum(~good))
    return np.asarray(bad[starts + length] == bad[starts])


class WindowStream(FixedSizeStream):
    """A series that lies on the device once; a batch is gathered of its steps.

    ``inputs`` (steps, series) are scaled, ``targets`` (steps, targets) in their own unit;
    ``starts`` (windows,) are the first steps of windows. A batch has ``input`` (batch, history,
    series) and ``target`` (batch, horizon, targets).
    """

    def __init__(
        self, inputs: Tensor, targets: Tensor, starts: Tensor, lengths: Lengths, batching: Batching
    ) -> None:
        device = batching.device
        self._inputs, self._targets = inputs.to(device), targets.to(device)
        self._starts = starts.to(device)
        self._past = torch.arange(lengths.history, device=device)
        self._future = torch.arange(lengths.history, lengths.window, device=device)
        super().__init__(len(starts), batching)

    def gather(self, order: Order, start: int) -> Iterator[Batch]:
        """Steps by number, each batch in two calls."""
        for low, high in order.bounds[start:]:
            begins = self._starts[low:high]
            if order.rows is not None:
                begins = self._starts.index_select(0, order.rows[low:high])
            yield {
                "input": self._inputs[begins[:, None] + self._past],
                "target": self._targets[begins[:, None] + self._future],
            }
