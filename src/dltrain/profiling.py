"""Where a training step's time and memory go, by part, by layer and by operation."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.autograd.profiler import record_function
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from dltrain import messages
from dltrain.assemble import Assembly, Config, Parts
from dltrain.contracts.metric import Table
from dltrain.engine.precision import autocast
from dltrain.training import Run

LAYER, DATA, STEP, OPTIMIZER = "layer: ", "dltrain: data", "dltrain: step", "dltrain: optimizer"
BACKWARD = "autograd::engine::evaluate_function"
TRACE = "trace.json"


@dataclass(frozen=True)
class Profile:
    """What was measured, each a mean over the steps: milliseconds and KiB."""

    device: str
    steps: int
    milliseconds: float
    """Of one step, with its data and without the profiler."""
    parts: Table
    layers: Table
    operations: Table


def profiled(config: Config, folder: Path, warmup: int, steps: int) -> Profile:
    """Train ``warmup`` steps, then ``steps`` with the clock alone, then ``steps`` watched.

    Writes ``trace.json``, for chrome://tracing or ui.perfetto.dev, into ``folder``. No run is made:
    nothing is evaluated, and no weights are kept. The step is neither compiled nor replayed.
    Raises :class:`UserError` as training does.
    """
    started = time.perf_counter()
    with messages.shown() as shown, Assembly(config) as assembly:
        parts = assembly.read()
        run = Run(config, parts, shown, started)
        device = parts.settings.device
        stepping = _steps(run, parts)
        for _ in range(warmup):
            next(stepping)
        _wait(device)
        begun = time.perf_counter()
        for _ in range(steps):
            next(stepping)
        _wait(device)
        milliseconds = (time.perf_counter() - begun) / steps * 1000
        activities = [ProfilerActivity.CPU]
        if device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        with (
            _layers_named(parts.task),
            profile(activities=activities, profile_memory=True, acc_events=True) as found,
        ):
            for _ in range(steps):
                next(stepping)
            _wait(device)
    folder.mkdir(parents=True, exist_ok=True)
    found.export_chrome_trace(str(folder / TRACE))
    events = [event for event in found.events() or () if isinstance(event, FunctionEvent)]
    measured = _Events(events, steps, device.type != "cpu")
    return Profile(
        str(device),
        steps,
        milliseconds,
        measured.parts(),
        measured.layers(),
        measured.operations(),
    )


def _steps(run: Run, parts: Parts) -> Iterator[None]:
    """Train a step each time; the data begins anew where it ends."""
    settings, task, stream = parts.settings, parts.task, run.streams["train"]
    total = settings.total_steps(stream.steps_per_epoch)
    task.enter(run.phases[0])
    task.train()
    for name, own in run.optimize.steps.items():
        # torch names these itself, but not where its compiler was kept out of them.
        run.optimize.steps[name] = _named(OPTIMIZER, own)
    step = epoch = 0
    while True:
        batches = iter(stream.batches(epoch))
        while True:
            with record_function(DATA):
                batch = next(batches, None)
            if batch is None:
                break
            run.optimize.set_multiplier(run.schedule(step))
            with record_function(STEP), autocast(settings.precision, settings.device):
                task.train_step(batch, run.optimize)
            yield
            step = (step + 1) % total
        epoch += 1


def _named(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        with record_function(name):
            return function(*arguments, **named)

    return call


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def _layers_named(task: nn.Module) -> Iterator[None]:
    """While inside, the trace tells of each layer without others in it when it runs."""
    open_ones: list[Any] = []
    handles = []
    for name, module in task.named_modules():
        if any(True for _ in module.children()):
            continue

        def before(module: nn.Module, inputs: Any, name: str = name) -> None:
            path, kind = name.removeprefix("model."), type(module).__name__
            mark = record_function(f"{LAYER}{path} ({kind})")
            mark.__enter__()
            open_ones.append(mark)

        def after(module: nn.Module, inputs: Any, output: Any) -> None:
            open_ones.pop().__exit__(None, None, None)

        handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Events:
    """Sums over the events of ``steps`` steps.

    What an operation of the backward pass belongs to is known by the number that autograd gives
    to an operation of the forward pass and to its gradient.
    """

    def __init__(self, events: Sequence[FunctionEvent], steps: int, on_device: bool) -> None:
        self._events, self._steps, self._on_device = events, steps, on_device
        self._layer_of: dict[int, str] = {}
        for event in events:
            layer = _layer_around(event)
            if layer is not None and event.sequence_nr >= 0:
                self._layer_of[event.sequence_nr] = layer

    def parts(self) -> Table:
        """Data, forward and loss, backward, optimizer: each part's own time."""
        sums: dict[str, float] = defaultdict(float)
        for event in self._events:
            if event.name == DATA:
                sums["data"] += self._time(event)
            elif event.name == STEP:
                sums["step"] += self._time(event)
            elif event.name.startswith(BACKWARD):
                sums["backward"] += self._time(event)
            elif event.name == OPTIMIZER:
                sums["optimizer"] += self._time(event)
        own_thread = sums["step"] - sums["optimizer"] - sums["backward"]
        rows = {
            "data": sums["data"],
            "forward, loss, rest": max(own_thread, 0.0),
            "backward": sums["backward"],
            "optimizer": sums["optimizer"],
        }
        total = sum(rows.values()) or 1.0
        return Table(
            ("part", "ms", "%"),
            [(name, self._mean(t), round(100 * t / total, 1)) for name, t in rows.items()],
        )

    def layers(self) -> Table:
        """Each layer's time forward and backward, and the memory that its forward keeps."""
        forward: dict[str, float] = defaultdict(float)
        backward: dict[str, float] = defaultdict(float)
        memory: dict[str, float] = defaultdict(float)
        for event in self._events:
            if event.name.startswith(LAYER):
                forward[event.name.removeprefix(LAYER)] += self._time(event)
            elif event.name.startswith(BACKWARD):
                layer = self._layer_of.get(event.sequence_nr)
                if layer is not None:
                    backward[layer] += self._time(event)
            layer = _layer_around(event)
            if layer is not None:
                memory[layer] += self._memory(event)
        rows = [
            (name, self._mean(time), self._mean(backward[name]), self._kib(memory[name]))
            for name, time in forward.items()
        ]
        return Table(("layer", "forward ms", "backw. ms", "KiB"), rows)

    def operations(self) -> Table:
        """Each operation's own time, that of what it calls left out; the longest first."""
        times: dict[str, float] = defaultdict(float)
        memory: dict[str, float] = defaultdict(float)
        calls: dict[str, int] = defaultdict(int)
        for event in self._events:
            if not event.name.startswith("aten::"):
                continue
            own = event.self_device_time_total if self._on_device else event.self_cpu_time_total
            times[event.name] += own
            memory[event.name] += max(self._memory(event), 0)
            calls[event.name] += 1
        total = sum(times.values()) or 1.0
        rows = [
            (
                name.removeprefix("aten::"),
                round(calls[name] / self._steps, 1),
                self._mean(times[name]),
                round(100 * times[name] / total, 1),
                self._kib(memory[name]),
            )
            for name in sorted(times, key=lambda name: -times[name])
        ]
        return Table(("operation", "calls", "own ms", "%", "KiB"), rows)

    def _time(self, event: FunctionEvent) -> float:
        return event.device_time_total if self._on_device else event.cpu_time_total

    def _memory(self, event: FunctionEvent) -> float:
        return event.self_device_memory_usage if self._on_device else event.self_cpu_memory_usage

    def _mean(self, microseconds: float) -> float:
        return round(microseconds / self._steps / 1000, 4)

    def _kib(self, size: float) -> float:
        return round(size / self._steps / 1024, 1)


def _layer_around(event: FunctionEvent) -> str | None:
    """The layer whose forward an operation is part of."""
    parent = event.cpu_parent
    while parent is not None:
        if parent.name.startswith(LAYER):
            return str(parent.name.removeprefix(LAYER))
        parent = parent.cpu_parent
    return None


def tables(found: Profile) -> Mapping[str, Table]:
    """All of them by name."""
    return {"parts": found.parts, "layers": found.layers, "operations": found.operations}
