"""Parts of torch without its compiler, which they import only to tell it to leave them alone.

Between a command and its first step nothing but torch itself takes longer than that import, and
it takes 150 MiB (docs/performance.md). Where we do compile (dltrain.compilation), the compiler
sees none of these parts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch.optim import Optimizer, optimizer

# All of this is torch's own affair and may change: where it has, torch goes its own, slower way.
WRAPPING = getattr(sys.modules.get("torch._compile"), "__file__", None)
"""The file of torch's wrapper that asks the compiler."""


def keep_compiler_out(kind: type) -> None:
    """Let the methods of ``kind``, a class of torch's, be called without asking the compiler first.

    A method's wrapper keeps what the compiler returned for it, at its first call, as an attribute
    of the method; here it finds the method itself.
    """
    for method in vars(kind).values():
        inner = getattr(method, "__wrapped__", None)
        if inner is not None and _is_from(method, WRAPPING):
            inner.__dict__.setdefault("__dynamo_disable", inner)


def step_of(stepping: Optimizer) -> Callable[[], None]:
    """What ``stepping.step()`` does, without what torch has wrapped around it.

    That is: no gradients of the step itself, a name for profilers, hooks, and two calls of the
    compiler. An optimizer that has hooks, or wants gradients, keeps it all.
    """
    plain: Callable[[Optimizer], object] = type(stepping).step
    while hasattr(plain, "__wrapped__") and _is_from(plain, optimizer.__file__):
        plain = plain.__wrapped__
    try:
        hooks = (
            stepping._optimizer_step_pre_hooks,
            stepping._optimizer_step_post_hooks,
            optimizer._global_optimizer_pre_hooks,
            optimizer._global_optimizer_post_hooks,
        )
    except AttributeError:
        return stepping.step
    differentiable = stepping.defaults.get("differentiable", False)
    without_gradients = torch.no_grad()

    def step() -> None:
        if differentiable or any(hooks):
            stepping.step()
            return
        with without_gradients:
            plain(stepping)

    return step


def _is_from(function: object, file: str | None) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename == file
