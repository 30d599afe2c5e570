"""Gradients of one group, summed over ranks in one call; learned buffers travel with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

Reduce = Callable[[Tensor], None]
"""Sums a tensor over all ranks, in place."""


class Buffers:
    """What a network learns without gradients, such as batch norm's running statistics.

    Each rank learns it of its own rows. How far it has moved since the last step is averaged, by
    the fraction of rows; so what stands still keeps its value to the last bit. Of floating point,
    and saved with the weights: other buffers follow from something else, or count steps.
    """

    def __init__(self, task: nn.Module) -> None:
        saved = task.state_dict(keep_vars=True).values()
        kept = {id(one): one for one in task.buffers()}
        # Without the count of changes that autograd keeps: a graph that is still to be gone back
        # through may have seen them, and needs none of what they hold now.
        self._all = [
            one.data for one in saved if id(one) in kept and one.is_floating_point() and one.numel()
        ]
        self._before = [one.clone() for one in self._all]
        self.size = sum(one.numel() for one in self._all)

    def write(self, into: Tensor, fraction: float) -> None:
        """How far each has moved, times ``fraction``, into ``into`` (size,)."""
        moved = torch._foreach_sub(self._all, self._before)
        torch._foreach_mul_(moved, fraction)
        torch._foreach_copy_(self._views(into), moved)

    def read(self, summed: Tensor) -> None:
        """Move each so far from where it was."""
        torch._foreach_add_(self._before, self._views(summed))
        torch._foreach_copy_(self._all, self._before)

    def _views(self, flat: Tensor) -> list[Tensor]:
        sizes = [one.numel() for one in self._all]
        pairs = zip(flat.split(sizes), self._all, strict=True)
        return [part.view_as(one) for part, one in pairs]


class Bucket:
    """The gradients of ``parameters`` end to end, and what is summed with them.

    Behind the gradients stand the weight that they are to be divided by, for each parameter on how
    many ranks it has a gradient, and the moves of ``buffers``.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], buffers: Buffers) -> None:
        self.parameters, self._buffers = list(parameters), buffers
        sizes = [p.numel() for p in self.parameters]
        more = [1, len(sizes), buffers.size]
        kind = torch.float32
        for parameter in self.parameters:
            kind = torch.promote_types(kind, parameter.dtype)
        device = self.parameters[0].device
        self._flat = torch.zeros(sum(sizes) + sum(more), dtype=kind, device=device)
        *parts, self._total, self._found, self._moves = self._flat.split([*sizes, *more])
        # In the order of memory that each parameter has, such as channels last.
        self._views = [_like(part, p) for part, p in zip(parts, self.parameters, strict=True)]
        self._patterns: dict[tuple[bool, ...], Tensor] = {}

    def reduce(
        self, total: Tensor | float | None, fraction: float, reduce: Reduce
    ) -> Tensor | None:
        """Sum all of it; what the gradients are to be divided by, where ``total`` is given.

        A parameter keeps no gradient where no rank has one, and has zeros of a rank without.
        """
        present = tuple(p.grad is not None for p in self.parameters)
        views = [view for view, there in zip(self._views, present, strict=True) if there]
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not all(present):
            self._flat.zero_()
        if gradients:
            torch._foreach_copy_(views, gradients)
        self._total.fill_(0.0 if total is None else total)
        self._found.copy_(self._pattern(present))
        if self._buffers.size:
            self._buffers.write(self._moves, fraction)
        reduce(self._flat)
        if self._buffers.size:
            self._buffers.read(self._moves)
        # Only who lacks some has to ask whether others have them, which waits for the device.
        found = [True] * len(present) if all(present) else (self._found > 0).tolist()
        for parameter, view, there in zip(self.parameters, self._views, found, strict=True):
            if there:
                parameter.grad = view if view.dtype == parameter.dtype else view.to(parameter.dtype)
        return None if total is None else self._total[0].clone()

    def _pattern(self, present: tuple[bool, ...]) -> Tensor:
        if present not in self._patterns:
            made = torch.tensor(present, dtype=self._flat.dtype, device=self._flat.device)
            self._patterns[present] = made
        return self._patterns[present]


def _like(flat: Tensor, parameter: Tensor) -> Tensor:
    """``flat`` in the shape of ``parameter``, and in its order of memory where that has no gaps."""
    strides = parameter.stride()
    dense = sorted(zip(strides, parameter.shape, strict=True))
    expected = 1
    for stride, side in dense:
        if side > 1 and stride != expected:
            return flat.view(parameter.shape)
        expected *= side
    assert math.prod(parameter.shape) == flat.numel()
    return flat.as_strided(parameter.shape, strides)
