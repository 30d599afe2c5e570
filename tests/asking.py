"""Asking a task: for its evaluation of batches and for its outputs; and what to make one of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.assemble import Assembly, Parts
from dltrain.contracts.data import Batch, DataSpec, Field, Stream
from dltrain.contracts.metric import Evaluation, Metric
from dltrain.contracts.task import Task
from dltrain.core.evaluate import Position, evaluate


def assembled(config: Mapping[str, Any], packages: frozenset[str] | None = None) -> Parts:
    """What a run of ``config`` is made of; the process is as it was."""
    with Assembly(config, packages) as assembly:
        return assembly.read()


class Given(Stream):
    """Some batches, in this order; their examples are those of the split in order."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = list(batches)

    @property
    def steps_per_epoch(self) -> int:
        return len(self._batches)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        return iter(self._batches[start:])

    def rows(self, epoch: int, position: int) -> Tensor:
        sizes = [len(batch["input"]) for batch in self._batches[: position + 1]]
        return torch.arange(sum(sizes[:-1]), sum(sizes))


def evaluated(task: Task, batches: Iterable[Batch], final: bool = False) -> Evaluation:
    """What ``task`` says of a split of these batches; it is left in eval mode."""
    task.eval()
    with torch.inference_mode():
        return evaluate(task, Given(batches), seed=0, epoch=0, final=final)


def gathered(task: Task, metrics: Sequence[Metric], parts: Iterable[tuple[Tensor, Batch]]) -> None:
    """Let ``metrics`` take in batches, each with the rows of its examples."""
    for position, (rows, batch) in enumerate(parts):
        outputs = task.eval_step(batch, Position(0, 0, False, rows, position))
        for metric in metrics:
            metric.update(outputs, batch, rows)


def answers(task: Task, inputs: Tensor) -> Tensor:
    """The first of the task's raw outputs."""
    return next(iter(task.forward({"input": inputs}).values()))


def classes(class_names: Sequence[str], *shape: int, **of_input: Any) -> DataSpec:
    """The spec of inputs of such a shape, an image where there are three sides, with classes."""
    source = Field(shape, "image" if len(shape) == 3 else "number", "input", **of_input)
    target = Field((), "class", "target", size=len(class_names), names=tuple(class_names))
    return DataSpec({"input": source, "target": target})


def numbers(*shape: int, outputs: int = 1, unit: Sequence[float] = (), **of_input: Any) -> DataSpec:
    """The spec of inputs of such a shape and numbers to predict; ``unit`` is their mean and std."""
    source = Field(shape, "number", "input", **of_input)
    target = Field((outputs,), "number", "target", mean=tuple(unit[:1]), std=tuple(unit[1:]))
    return DataSpec({"input": source, "target": target})


def texts(words: Sequence[str], class_names: Sequence[str]) -> DataSpec:
    """The spec of texts of these words, the first of which pads, with classes."""
    source = Field((None,), "tokens", "input", size=len(words), names=tuple(words), fill=0)
    target = Field((), "class", "target", size=len(class_names), names=tuple(class_names))
    return DataSpec({"input": source, "target": target})
