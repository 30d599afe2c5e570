"""A network layer by layer: output shapes, parameters, multiply-adds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dltrain.types import Batch, Table, Task


def summarise(task: Task, batch: Batch) -> Table:
    """One row for each layer that ran on the first example of ``batch``, in order of running.

    Multiply-adds are half the floating-point operations that torch counts for matrix products and
    convolutions; element-wise work is left out, as is usual. The last row is the sum.
    """
    example = {name: column[:1] for name, column in batch.items()}
    shapes: dict[str, tuple[int, ...]] = {}
    modules = {name: m for name, m in task.named_modules() if not any(True for _ in m.children())}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output if isinstance(output, Tensor) else output[0]
            shapes.setdefault(name, tuple(first.shape[1:]))

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    was_training = task.training
    counter = FlopCounterMode(display=False)
    try:
        task.eval()
        with torch.no_grad(), counter:
            task.predict(example)
    finally:
        task.train(was_training)
        for handle in handles:
            handle.remove()

    operations = counter.get_flop_counts()
    rows: list[tuple[str, str, int, int]] = []
    for name, shape in shapes.items():
        parameters = sum(p.numel() for p in modules[name].parameters())
        counts = operations.get(f"{type(task).__name__}.{name}", {})
        label = f"{name.removeprefix('model.')} ({type(modules[name]).__name__})"
        rows.append((label, "×".join(map(str, shape)), parameters, sum(counts.values()) // 2))
    rows.append(
        (
            "total",
            "",
            sum(p.numel() for p in task.parameters()),
            counter.get_total_flops() // 2,
        )
    )
    return Table(("layer", "output", "parameters", "multiply-adds"), rows)
