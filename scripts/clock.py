"""A callback that notes when the first step of a run is over; for scripts/benchmark.py."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import torch

from dltrain.trainer import Trainer
from dltrain.types import Callback

ENOUGH = 0.99


class Clock(Callback):
    """Writes the clock time at the end of the first step to $BENCHMARK_FIRST_STEP.

    With ``look_every`` it also looks at the test split every so many steps, which no run does, and
    writes accuracy and clock time to $BENCHMARK_LOOKS; after 99 % the run is interrupted.
    """

    def __init__(self, look_every: int = 0) -> None:
        self.look_every = look_every

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
                if not self.look_every:
                    optimize.set_multiplier = finish  # type: ignore[method-assign]
            if self.look_every and calls % self.look_every == 0:
                self._look(trainer)
            finish(multiplier)

        optimize.set_multiplier = set_multiplier  # type: ignore[method-assign]

    def _look(self, trainer: Trainer) -> None:
        trainer.task.eval()
        with torch.inference_mode():
            accuracy = trainer.task.evaluate(trainer.loaders.test).scalars["accuracy"]
        trainer.task.train()
        with Path(os.environ["BENCHMARK_LOOKS"]).open("a") as file:
            file.write(f"{accuracy} {time.time()}\n")
        if accuracy >= ENOUGH:
            trainer.signal = signal.SIGTERM
