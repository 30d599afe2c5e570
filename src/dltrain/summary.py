"""A network layer by layer: output shapes, parameters, multiply-adds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.flop_counter import FlopCounterMode

from dltrain.types import Batch, Table, Task


def summarise(task: Task, batch: Batch) -> Table:
    """One row for each layer that ran on the first example of ``batch``, in order of running.

    Multiply-adds are half the floating-point operations that torch counts for matrix products and
    convolutions; element-wise work is left out, as is usual. They are those of an answer, for which
    a layer may run several times. The last row is the sum.
    """
    example = {name: column[:1] for name, column in batch.items()}
    leaves = {name: module for name, module in task.named_modules() if _is_layer(name, module)}
    counter = FlopCounterMode(display=False)
    shapes: dict[str, str] = {}
    operations: dict[str, int] = dict.fromkeys(leaves, 0)
    unseen: dict[str, int] = {}
    handles = []
    for name, leaf in leaves.items():

        def before(module: nn.Module, inputs: Any, name: str = name) -> None:
            operations[name] -= counter.get_total_flops()

        def after(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            operations[name] += counter.get_total_flops()
            first = output if isinstance(output, Tensor) else output[0]
            if isinstance(module, nn.RNNBase) and not operations[name]:
                unseen[name] = _of_recurrence(module, inputs[0])
            shapes.setdefault(name, "×".join(map(str, first.shape[1:])))

        handles += [leaf.register_forward_pre_hook(before), leaf.register_forward_hook(after)]
    was_training = task.training
    try:
        task.eval()
        with torch.no_grad(), counter:
            task.predict(example)
    finally:
        task.train(was_training)
        for handle in handles:
            handle.remove()

    rows: list[tuple[str, str, int, int]] = []
    for name, shape in shapes.items():
        label = f"{name.removeprefix('model.')} ({type(leaves[name]).__name__})"
        parameters = sum(p.numel() for p in leaves[name].parameters())
        rows.append((label, shape, parameters, (operations[name] + unseen.get(name, 0)) // 2))
    rows.append(
        (
            "total",
            "",
            sum(p.numel() for p in task.parameters()),
            (counter.get_total_flops() + sum(unseen.values())) // 2,
        )
    )
    return Table(("layer", "output", "parameters", "multiply-adds"), rows)


def _is_layer(name: str, module: nn.Module) -> bool:
    """Whether nothing is inside but what shapes its own weights, such as spectral norm."""
    if is_parametrized(module):
        return True
    return ".parametrizations." not in name and not any(True for _ in module.children())


def _of_recurrence(layer: nn.RNNBase, inputs: Tensor) -> int:
    """Operations of one fused kernel: each step (batch 1) multiplies by every matrix once."""
    steps = inputs.shape[1 if layer.batch_first else 0]
    return 2 * steps * sum(weight.numel() for weight in layer.parameters() if weight.ndim > 1)
