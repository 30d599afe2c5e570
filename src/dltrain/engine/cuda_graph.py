"""``trainer.cuda_graph``: a whole training step recorded once, then replayed by the device alone.

A step of a small network is many short kernels, and starting each takes longer than running it. A
CUDA graph starts them all at once. It knows only the memory that was there when it was recorded, so
batches are copied to where the recorded one lay, and nothing in a step may be decided on the host.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.contracts.run import Modifier, Regularizer
from dltrain.contracts.task import Metrics, Task
from dltrain.engine.compile import TrainStep
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

CudaGraph = Literal["off", "on", "auto"]
Replay = Callable[[], None]
Record = Callable[[Callable[[], Metrics]], tuple[Replay, Metrics]]
"""Records what a function does, without doing it: what does it, and where its results will lie."""


class Optimizing(Protocol):
    """What is asked of the loop's ``optimize`` besides its call."""

    accumulate: int
    measure: bool
    replayable: bool
    gradient_norms: dict[str, Tensor]

    @property
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """Those of every group of parameters."""

    @property
    def regularizers(self) -> Mapping[str, Sequence[Regularizer]]:
        """What holds weights back."""

    @property
    def modifiers(self) -> Sequence[Modifier]:
        """What acts after their steps."""


WARM = 3
"""Steps before the recording; buffers are made in them, and libraries choose their kernels."""
KNOWN = ("dltrain", "torch", "torchvision")
"""Packages whose modules do the same in each step, but for what says of itself that it does not."""
SMALL = 0.25
"""Part of a device's memory that a run has taken at most, for ``auto`` to record its step."""


def replayed_step(
    mode: CudaGraph,
    step: TrainStep,
    task: Task,
    optimize: Optimizing,
    device: torch.device,
) -> TrainStep:
    """``step``, replayed where ``mode`` asks for it and, of ``auto``, where it can be.

    What others' code does in Python would be done once, in the recording, and never again: so
    ``auto`` leaves it alone and says so. Raises :class:`UserError` where ``on`` is not possible.
    """
    if mode == "off":
        return step
    reason = _obstacle(task, optimize, device)
    if reason and mode == "on":
        raise UserError(f"trainer.cuda_graph: {reason}. Set it to off or auto.")
    if reason:
        logger.debug("trainer.cuda_graph=auto: off, %s.", reason)
        return step
    if mode == "on":
        keep_rates_on(device, optimize.optimizers.values())
        return Recorded(step, optimize, _record, logging.INFO)
    if unknown := _unknown(task, optimize):
        logger.info(
            "trainer.cuda_graph=auto: off, %s may decide something in Python. If it does not, "
            "set it to on.",
            unknown,
        )
        return step
    keep_rates_on(device, optimize.optimizers.values())
    return Recorded(step, optimize, _record_what_is_small, logging.DEBUG)


class Recorded:
    """Makes a step ``WARM`` times, records it, and replays it for every batch of that shape.

    Batches of another shape, such as an epoch's last one, are stepped on as ever. Where the shape
    changes before there is a recording, or the recording fails, all are, and ``level`` is that of
    the line that says why.
    """

    def __init__(self, step: TrainStep, optimize: Optimizing, record: Record, level: int) -> None:
        self._step, self._optimize = step, optimize
        self._record, self._level = record, level
        self._given_up = False
        self._shapes: list[torch.Size] | None = None
        self._seen = 0
        self._replay: Replay | None = None

    def __call__(self, batch: Batch) -> Metrics:
        """Make a step, one way or the other."""
        if self._given_up:
            return self._step(batch)
        shapes = [column.shape for column in batch.values()]
        if self._shapes is None:
            self._shapes = shapes
        if self._replay is not None and shapes == self._shapes:
            return self._replayed(batch)
        if self._replay is None and shapes != self._shapes:
            self._give_up("batches are of many shapes")
        elif self._replay is None and self._seen == WARM:
            self._start(batch)
            return self(batch)
        self._seen += 1
        return self._step(batch)

    def _start(self, batch: Batch) -> None:
        self._batch = {name: column.clone() for name, column in batch.items()}
        # Whether somebody will read the norms cannot be known to what is recorded.
        self._optimize.measure = True
        try:
            self._replay, self._metrics = self._record(lambda: self._step(self._batch))
        except RuntimeError as error:
            self._give_up(f"the step cannot be recorded: {str(error).splitlines()[0]}")
        self._norms = dict(self._optimize.gradient_norms)

    def _replayed(self, batch: Batch) -> Metrics:
        assert self._replay is not None
        for name, column in batch.items():
            self._batch[name].copy_(column)
        self._replay()
        self._optimize.gradient_norms.update(self._norms)
        # The next replay writes to the same places, before anybody has read this one's.
        return {name: _copied(value) for name, value in self._metrics.items()}

    def _give_up(self, reason: str) -> None:
        self._given_up = True
        logger.log(self._level, "trainer.cuda_graph: off, %s.", reason)


def _obstacle(task: Task, optimize: Optimizing, device: torch.device) -> str:
    """Why a step cannot be recorded; nothing where it can."""
    if device.type != "cuda":
        return f"{device.type} is no CUDA device"
    if not task.replayable:
        return f"a step of {type(task).__name__} decides something on the host"
    if not optimize.replayable:
        return "a scaled loss, or released gradients, have not been recorded yet"
    if optimize.accumulate > 1:
        return "not every batch steps with trainer.accumulate above 1"
    for modifier in optimize.modifiers:
        if not modifier.replayable:
            return f"{type(modifier).__name__} decides something on the host"
    for optimizer in optimize.optimizers.values():
        for group in optimizer.param_groups:
            if not group.get("fused") and "capturable" not in group:
                return f"{type(optimizer).__name__} decides something on the host"
    return ""


def _unknown(task: Task, optimize: Optimizing) -> str:
    """The name of a part of a step that comes from elsewhere; nothing where none does."""
    parts = (
        *(*task.modules(), *optimize.optimizers.values(), *optimize.modifiers),
        *(part for some in optimize.regularizers.values() for part in some),
    )
    kinds = map(type, parts)
    return next((k.__name__ for k in kinds if k.__module__.partition(".")[0] not in KNOWN), "")


def keep_rates_on(device: torch.device, optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Hold learning rates as tensors on ``device``, which a CUDA graph reads anew each time."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(float(group["lr"]), device=device)
            if "capturable" in group:
                group["capturable"] = True


def _copied(value: Tensor | tuple[Tensor, Tensor]) -> Tensor | tuple[Tensor, Tensor]:
    return (value[0].clone(), value[1].clone()) if isinstance(value, tuple) else value.clone()


def _record(step: Callable[[], Metrics]) -> tuple[Replay, Metrics]:
    graph = torch.cuda.CUDAGraph()
    # Other threads pin and copy batches meanwhile, which the default would take for a fault.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        metrics = step()
    return graph.replay, metrics


def _record_what_is_small(step: Callable[[], Metrics]) -> tuple[Replay, Metrics]:
    """A recording keeps its memory, and a step of large networks hardly waits for Python."""
    taken, there = torch.cuda.max_memory_allocated(), torch.cuda.mem_get_info()[1]
    if taken > SMALL * there:
        raise RuntimeError(f"it takes {taken / 2**30:.1f} of {there / 2**30:.1f} GiB")
    return _record(step)
