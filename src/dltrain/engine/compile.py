"""``trainer.compile``: a training step as torch.compile makes it, where that is worth its while.

Everything up to ``optimize`` is compiled: networks, losses, metrics. What ``optimize`` does is
left as it is, for a fused optimizer is one call already.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import torch

from dltrain.contracts.data import Batch
from dltrain.contracts.task import Metrics, Optimize, Task
from dltrain.errors import UserError

Compile = Literal["off", "on", "auto"]
TrainStep = Callable[[Batch], Metrics]

WARM, TIMED = 10, 20
"""Steps of a trial that are left out of its time, and those that are counted."""
WORTH_TRYING = 600.0
"""Seconds that a run must have left: compiling takes up to a minute, a tenth of that."""


def train_step(
    mode: Compile,
    task: Task,
    optimize: Optimize,
    device: torch.device,
    steps: int,
    settle: Callable[[Compile, str], None],
) -> TrainStep:
    """What turns a batch into metrics and better weights, ``steps`` times.

    ``settle`` hears whether ``auto`` means ``on`` or ``off``, and why.
    """

    def plain(batch: Batch) -> Metrics:
        return task.train_step(batch, optimize)

    if mode == "off":
        return plain
    compiled = _compiled(task, optimize)
    if mode == "on":
        return compiled
    wait = torch.cuda.synchronize if device.type == "cuda" else _nothing
    return Trial(plain, compiled, steps, settle, wait)


class CannotCompile(UserError):
    """What torch needs for it is not there."""


class Trial:
    """Takes a compiled step in place of the plain one, if the run is long and it is faster.

    ``wait`` returns when the device has done all that it was told.
    """

    def __init__(
        self,
        plain: TrainStep,
        compiled: TrainStep,
        steps: int,
        settle: Callable[[Compile, str], None],
        wait: Callable[[], None],
    ) -> None:
        self._plain, self._compiled, self._steps = plain, compiled, steps
        self._settle, self._wait = settle, wait
        self._step = plain
        self._calls = 0
        self._seconds = 0.0
        self._plain_seconds: float | None = None
        self._settled = False

    def __call__(self, batch: Batch) -> Metrics:
        """Make a step, one way or the other."""
        if self._settled:
            return self._step(batch)
        self._calls += 1
        if self._calls <= WARM:
            return self._tried(batch)
        self._wait()
        started = time.perf_counter()
        metrics = self._step(batch)
        self._wait()
        self._seconds += time.perf_counter() - started
        if self._calls == WARM + TIMED:
            self._decide(self._seconds / TIMED)
        return metrics

    def _tried(self, batch: Batch) -> Metrics:
        """A step that may find that torch cannot compile it."""
        try:
            return self._step(batch)
        except CannotCompile as error:
            self._choose("off", str(error))
            return self._step(batch)

    def _decide(self, seconds: float) -> None:
        """A step of the kind now on trial takes ``seconds``."""
        if self._plain_seconds is None:
            left = (self._steps - self._calls) * seconds
            if left < WORTH_TRYING:
                self._choose("off", f"compiling would not pay in the {left:,.0f} s that are left.")
                return
            self._plain_seconds, self._step = seconds, self._compiled
            self._calls, self._seconds = 0, 0.0
            return
        times = f"{seconds * 1e3:,.2f} ms a step compiled, {self._plain_seconds * 1e3:,.2f} not."
        self._choose("on" if seconds < self._plain_seconds else "off", times)

    def _choose(self, mode: Compile, why: str) -> None:
        self._settled = True
        self._step = self._compiled if mode == "on" else self._plain
        self._settle(mode, why)


def _compiled(task: Task, optimize: Optimize) -> TrainStep:
    step = torch.compile(task.train_step)
    apart = torch.compiler.disable(optimize.__call__)

    def compiled(batch: Batch) -> Metrics:
        try:
            return step(batch, apart)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            reason = str(error.inner_exception).strip().splitlines()[0]
            raise CannotCompile(
                f"torch cannot compile this step here: {reason}\n"
                "Set trainer.compile=off, or see to a C++ compiler."
            ) from error

    return compiled


def _nothing() -> None:
    return None
