"""What scripts/benchmark.py puts into a run: when its first step is over, how good it is by then.

Both write clock times, as :func:`time.time` gives them, into files that the environment names.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from dltrain.contracts.data import Streams
from dltrain.contracts.metric import Evaluation
from dltrain.contracts.run import Probe, View
from dltrain.contracts.task import Task
from dltrain.core.evaluate import evaluate
from dltrain.optim.schedules import Constant

ENOUGH = 0.99


class FirstStep(Constant):
    """Writes the clock time at the end of the first step to $BENCHMARK_FIRST_STEP.

    The loop asks for the rate as a step begins: at the second, the first is over.
    """

    def __call__(self, step: int) -> float:
        """1, and at the second step the time."""
        if step == 1:
            Path(os.environ["BENCHMARK_FIRST_STEP"]).write_text(str(time.time()))
        return super().__call__(step)


class Looks(Probe):
    """Evaluates the test split whenever a period of training is over, which no run does.

    Adds its accuracy and the clock time to $BENCHMARK_LOOKS; at 99 % the run is stopped.
    """

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        """Nothing to add to the run's own evaluations."""
        if split == "train":
            found = evaluate(task, streams["test"], seed=0, epoch=0, final=False)
            accuracy = found.scalars["accuracy"]
            with Path(os.environ["BENCHMARK_LOOKS"]).open("a") as file:
                file.write(f"{accuracy} {time.time()}\n")
            if accuracy >= ENOUGH:
                view.stop(f"{ENOUGH:.0%} of the test split are right")
        return Evaluation()
