"""Which learning rates a config can be trained with: the loss as the rate rises (Smith 2017).

A run of few steps, whose rate rises by the same factor each step; it ends when the loss diverges.
It has no splits but the training split, and its folder is gone afterwards.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from dltrain import messages
from dltrain.assemble import Assembly, optimizer_settings
from dltrain.contracts.run import Callback, Schedule, View
from dltrain.errors import Diverged, UserError
from dltrain.runs.folder import RunFolder
from dltrain.training import Run

SMOOTHING = 0.95
"""Of the running mean that tells divergence, which is corrected for its beginning at zero."""
WIDTH = 4.0
"""Steps: the standard deviation of the weights of the mean that is shown, which has no lag."""
TOO_MUCH = 3.0
"""How far above its least value the loss has diverged, in units of that value; or it has lost all
that it had fallen by, whichever is more."""
FEWEST = 10
"""Steps before which nothing is decided: the mean is of too few."""


class Rising(Schedule):
    """Multiplies the base rate by ``first`` at the first step and by ``last`` at the last."""

    def __init__(self, first: float, last: float, **run: Any) -> None:
        super().__init__(**run)
        self.first, self.last = first, last

    def shape(self, progress: float) -> float:
        """Rise by the same factor each step."""
        along = progress * self.total_steps / max(1, self.total_steps - 1)
        return self.first * (self.last / self.first) ** along


@dataclass(frozen=True)
class RangeTest:
    """Learning rates, and at each the loss of its step."""

    rates: Sequence[float]
    losses: Sequence[float]
    diverged: bool

    @cached_property
    def smoothed(self) -> Sequence[float]:
        """The mean of each step and its neighbors; beyond twice the first loss, it is cut off."""
        losses = np.asarray(self.losses)
        start = float(np.median(losses[:FEWEST]))
        distance = np.arange(-3 * WIDTH, 3 * WIDTH + 1)
        weights = np.exp(-((distance / WIDTH) ** 2) / 2)
        # What lies beyond the ends counts as they do.
        ends = np.pad(np.minimum(losses, start + abs(start)), len(distance) // 2, mode="edge")
        return [float(mean) for mean in np.convolve(ends, weights / weights.sum(), "valid")]

    @property
    def least(self) -> int:
        """The step whose mean is the least."""
        return min(range(len(self.smoothed)), key=self.smoothed.__getitem__)

    @property
    def steepest(self) -> int | None:
        """The step at which the mean falls fastest per decade; None where it never falls."""
        slopes = {
            step: (self.smoothed[step + 1] - self.smoothed[step - 1])
            / math.log10(self.rates[step + 1] / self.rates[step - 1])
            for step in range(1, self.least)
        }
        found = min(slopes, key=slopes.__getitem__, default=None)
        return found if found is not None and slopes[found] < 0 else None


class Watching(Callback):
    """Keeps rates and losses; ends the run where the loss diverges."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []
        self.diverged = False
        self._mean = 0.0
        self._means: list[float] = []

    def log(self, view: View, values: Mapping[str, float]) -> None:
        """One step."""
        if "loss" not in values:
            names = ", ".join(name for name in values if "loss" in name) or "none"
            raise UserError(
                f"lr-find: it follows one loss, and this task has several or another: {names}."
            )
        rate = next(value for name, value in values.items() if name.startswith("learning_rate"))
        self._mean = SMOOTHING * self._mean + (1 - SMOOTHING) * values["loss"]
        self.rates.append(rate)
        self.losses.append(values["loss"])
        self._means.append(self._mean / (1 - SMOOTHING ** len(self.rates)))
        least = min(self._means)
        far = max(TOO_MUCH * abs(least), self._means[0] - least)
        if len(self.rates) > FEWEST and self._means[-1] > least + far:
            self.diverged = True
            view.stop("the loss has diverged")


def range_test(
    config: Mapping[str, Any], low: float, high: float, steps: int, keep: Path | None = None
) -> RangeTest:
    """Train ``config`` for ``steps`` steps whose rate rises from ``low`` to ``high``.

    Its schedule, callbacks and length are not used. ``keep`` is where the run's folder is to stay;
    None: nowhere. Raises :class:`UserError` for a config that cannot be trained, and where the
    loss was finite for too few steps.
    """
    started = time.perf_counter()
    base = _base_rate(config)
    rising = {
        "_target_": f"{__name__}.{Rising.__name__}",
        "first": low / base,
        "last": high / base,
    }
    often = {"steps": steps, "log_every": 1, "evaluate_every": steps, "evaluate_steps": steps}
    alone = {"monitor": None, "monitor_mode": None, "test_weights": "last", "cuda_graph": "off"}
    config = {
        **config,
        "schedule": rising,
        "callbacks": {},
        "trainer": {**config["trainer"], **often, **alone, "checkpoint_seconds": 1e9},
    }
    watching = Watching()
    with (
        messages.shown() as shown,
        Assembly(config) as assembly,
        tempfile.TemporaryDirectory() as nowhere,
    ):
        run = Run(config, assembly.read(), shown, started, [watching])
        run.streams = {"train": run.streams["train"]}
        parent = Path(nowhere) if keep is None else keep
        folder = RunFolder.create(parent, f"{config['name']}-lr-find")
        run.begin(folder)
        run.describe(())
        folder.publish(parent)
        try:
            with redirect_stdout(StringIO()):
                run.go(None)
        except Diverged:
            watching.diverged = True
        finally:
            folder.release()
    if len(watching.rates) <= FEWEST:
        raise UserError(
            f"lr-find: the loss was finite for {len(watching.rates)} steps only; "
            "give a lower --min or more --steps."
        )
    return RangeTest(watching.rates, watching.losses, watching.diverged)


def _base_rate(config: Mapping[str, Any]) -> float:
    """The rate that the schedule multiplies. Raises :class:`UserError` where there is none."""
    rate = optimizer_settings(config).common.get("lr")
    if not isinstance(rate, (int, float)) or rate <= 0:
        raise UserError(f"lr-find: it multiplies optimizer.lr, which is {rate}: set it above 0.")
    return float(rate)
