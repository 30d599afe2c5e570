"""A callback that notes when the first step of a run is over; for scripts/benchmark.py."""

from __future__ import annotations

import os
import time
from pathlib import Path

from dltrain.trainer import Trainer
from dltrain.types import Callback


class Clock(Callback):
    """Writes the clock time at the end of the first step to $BENCHMARK_FIRST_STEP."""

    def start(self, trainer: Trainer) -> None:
        """Wrap the optimizer's first step."""
        optimize = trainer.optimize
        finish = optimize.set_multiplier
        calls = 0

        def set_multiplier(multiplier: float) -> None:
            # The trainer sets the rate as a step begins: at the second, the first is over.
            nonlocal calls
            calls += 1
            if calls == 2:
                Path(os.environ["BENCHMARK_FIRST_STEP"]).write_text(str(time.time()))
                optimize.set_multiplier = finish  # type: ignore[method-assign]
            finish(multiplier)

        optimize.set_multiplier = set_multiplier  # type: ignore[method-assign]
