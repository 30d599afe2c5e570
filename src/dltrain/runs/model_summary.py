"""A network layer by layer: output shapes, parameters, multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.parametrize import is_parametrized
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dltrain.contracts.data import Batch
from dltrain.contracts.metric import Table
from dltrain.contracts.task import Task
from dltrain.engine.torch_startup import keep_compiler_out


def _product(out: Tensor, *inputs: Any) -> int:
    """Each number of the matrix product of the last two inputs is a sum of so many products."""
    return out.numel() * inputs[-2].shape[-1]


def _convolution(out: Tensor, images: Tensor, kernels: Tensor, *arguments: Any) -> int:
    """Each number of the output is made with one kernel; transposed, each of the input."""
    transposed = arguments[4]
    return (images if transposed else out).numel() * kernels[0].numel()


_COUNTS: dict[Any, Callable[..., int]] = {
    torch.ops.aten.mm: _product,
    torch.ops.aten.bmm: _product,
    torch.ops.aten.addmm: _product,
    torch.ops.aten.baddbmm: _product,
    torch.ops.aten.convolution: _convolution,
}


class _MultiplyAdds(TorchDispatchMode):
    """Counts them while it is entered.

    torch.utils.flop_counter counts the same, but imports a compiler of GPU programs for it, of
    66 MiB, and before torch 2.15 takes attention on a processor for nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self,
        function: Any,
        types: Sequence[type],
        arguments: Sequence[Any] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run the operation, and count what it multiplies."""
        out = function(*arguments, **(named or {}))
        count = _COUNTS.get(function.overloadpacket)
        if count is not None:
            self.total += count(out, *arguments)
        return out


keep_compiler_out(_MultiplyAdds)


def summarize(task: Task, batch: Batch) -> Table:
    """One row for each layer that ran on the first example of ``batch``, in order of running.

    Multiply-adds are those of matrix products, convolutions and attention; element-wise work is
    left out, as is usual. They are those of an answer, for which a layer may run several times. The
    last row is the sum.
    """
    example = {name: column[:1] for name, column in batch.items()}
    leaves = {name: module for name, module in task.named_modules() if _is_layer(name, module)}
    counter = _MultiplyAdds()
    shapes: dict[str, str] = {}
    operations: dict[str, int] = dict.fromkeys(leaves, 0)
    unseen: dict[str, int] = {}
    handles = []
    for name, leaf in leaves.items():

        def before(module: nn.Module, inputs: Any, name: str = name) -> None:
            operations[name] -= counter.total

        def after(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            operations[name] += counter.total
            if isinstance(module, nn.RNNBase) and not operations[name]:
                unseen[name] = _of_recurrence(module, inputs[0])
            first = next((leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)), None)
            shapes.setdefault(name, "" if first is None else "×".join(map(str, first.shape[1:])))

        handles += [leaf.register_forward_pre_hook(before), leaf.register_forward_hook(after)]
    was_training, fused = task.training, torch.backends.mha.get_fastpath_enabled()
    try:
        task.eval()
        torch.backends.mha.set_fastpath_enabled(False)  # nobody sees what is in a fused layer
        # Attention as the matrix products that it is, whatever kernels torch has for it.
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            task.forward(example)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        task.train(was_training)
        for handle in handles:
            handle.remove()

    rows: list[tuple[str, str, int, int]] = []
    for name, shape in shapes.items():
        label = f"{name.removeprefix('model.')} ({type(leaves[name]).__name__})"
        parameters = sum(p.numel() for p in leaves[name].parameters())
        rows.append((label, shape, parameters, operations[name] + unseen.get(name, 0)))
    rows.append(
        (
            "total",
            "",
            sum(p.numel() for p in task.parameters()),
            counter.total + sum(unseen.values()),
        )
    )
    return Table(("layer", "output", "parameters", "multiply-adds"), rows)


def _is_layer(name: str, module: nn.Module) -> bool:
    """Whether nothing is inside but what shapes its own weights, such as spectral norm."""
    if is_parametrized(module):
        return True
    return ".parametrizations." not in name and not any(True for _ in module.children())


def _of_recurrence(layer: nn.RNNBase, inputs: Tensor) -> int:
    """Multiply-adds of one fused kernel: each step (batch 1) multiplies by every matrix once."""
    steps = inputs.shape[1 if layer.batch_first else 0]
    return steps * sum(weight.numel() for weight in layer.parameters() if weight.ndim > 1)
