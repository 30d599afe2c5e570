"""Adam's fused step without what torch does around it at each step.

Torch gathers the tensors of all parameters in lists anew each time, sorts them by device and type,
and goes through three functions to its kernel: in Python, and longer than the kernel takes for a
small network (docs/performance.md). The lists do not change, so here they are made once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Torch's own affair, which may change: where it has, torch goes its own, slower way.
KERNELS: dict[bool, Any] = {
    False: getattr(torch, "_fused_adam_", None),
    True: getattr(torch, "_fused_adamw_", None),
}
"""By whether weight decay is decoupled from the gradient."""


class _Lists(NamedTuple):
    """Tensors of a parameter group, in its order."""

    group: dict[str, Any]
    parameters: list[Tensor]
    averages: list[Tensor]
    squares: list[Tensor]
    steps: list[Tensor]


def fused_adam_step(
    optimizer: torch.optim.Optimizer, step: Callable[[], object]
) -> Callable[[], object]:
    """What ``step`` does, the step of ``optimizer``, by the kernel alone where that is all of it.

    Called without gradients being recorded, as ``step`` is.

    It is all of it for torch's own Adam and AdamW in their fused form, without amsgrad, once there
    is a state of every parameter, as long as every parameter has a gradient, no scaler takes part
    and rates are numbers. The numbers are the same to the last bit.
    """
    own = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW)
    if not own or None in KERNELS.values() or not all(map(_is_plain, optimizer.param_groups)):
        return step
    kept: list[_Lists] = []

    def lean() -> None:
        if not _are_current(kept, optimizer):
            kept[:] = _gathered(optimizer)
            if not kept:
                step()
                return
        gradients = [[p.grad for p in lists.parameters] for lists in kept]
        scaled = getattr(optimizer, "found_inf", None) is not None
        if scaled or any(one is None for some in gradients for one in some):
            step()
            return
        for lists, some in zip(kept, gradients, strict=True):
            group = lists.group
            torch._foreach_add_(lists.steps, 1)
            KERNELS[group["decoupled_weight_decay"]](
                *(lists.parameters, some, lists.averages, lists.squares, [], lists.steps),
                lr=group["lr"],
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                amsgrad=False,
                maximize=group["maximize"],
            )

    return lean


def _is_plain(group: dict[str, Any]) -> bool:
    """Whether the kernel takes all that the group says."""
    numbers = (group["lr"], *group["betas"])
    return (
        {"decoupled_weight_decay", "maximize", "differentiable"} <= group.keys()
        and bool(group["fused"])
        and not group["amsgrad"]
        and not group["differentiable"]
        and not any(isinstance(one, Tensor) for one in numbers)
        and len({(p.device, p.dtype) for p in group["params"]}) == 1
        and not any(torch.is_complex(p) for p in group["params"])
    )


def _are_current(kept: list[_Lists], optimizer: torch.optim.Optimizer) -> bool:
    """Whether the lists are of this state: to load one replaces groups and tensors alike."""
    return bool(kept) and all(
        lists.group is group
        and optimizer.state[lists.parameters[0]].get("exp_avg") is lists.averages[0]
        for lists, group in zip(kept, optimizer.param_groups, strict=False)
    )


def _gathered(optimizer: torch.optim.Optimizer) -> list[_Lists]:
    """The lists of all groups; none before every parameter has its state."""
    found = []
    for group in optimizer.param_groups:
        states = [optimizer.state.get(p, {}) for p in group["params"]]
        if not all(states) or not _is_plain(group):
            return []
        found.append(
            _Lists(
                group,
                list(group["params"]),
                [state["exp_avg"] for state in states],
                [state["exp_avg_sq"] for state in states],
                [state["step"] for state in states],
            )
        )
    return found
