"""Parts of torch without its compiler, which they import only to tell it to leave them alone.

Between a command and its first step nothing but torch itself takes longer than that import, and
it takes 150 MiB (docs/performance.md). Where we do compile (dltrain.engine.compile), the compiler
sees none of these parts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.optim import Optimizer, optimizer

from dltrain.engine.fused_adam import fused_adam_step

# All of this is torch's own affair and may change: where it has, torch goes its own, slower way.
WRAPPING = getattr(sys.modules.get("torch._compile"), "__file__", None)
"""The file of torch's wrapper that asks the compiler."""

KEPT = "__dynamo_disable"
"""Where the wrapper of a method keeps what the compiler returned for it, at its first call."""


def keep_compiler_out(kind: type) -> list[Any]:
    """Let the methods of ``kind`` be called without asking torch's compiler first.

    A method's wrapper is told that the compiler has returned the method itself. Returns the methods
    for which this was not so before.
    """
    told = []
    for method in vars(kind).values():
        inner = getattr(method, "__wrapped__", None)
        if inner is None or not _is_from(method, WRAPPING):
            continue
        if KEPT not in vars(inner):
            setattr(inner, KEPT, inner)
            told.append(inner)
    return told


@contextmanager
def compiler_kept_out(kind: type) -> Iterator[None]:
    """:func:`keep_compiler_out` of a class that is not ours, while inside."""
    told = keep_compiler_out(kind)
    try:
        yield
    finally:
        for method in told:
            delattr(method, KEPT)


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
    inner = fused_adam_step(stepping, lambda: plain(stepping))

    def step() -> None:
        if differentiable or any(hooks):
            stepping.step()
            return
        with without_gradients:
            inner()

    return step


def _is_from(function: object, file: str | None) -> bool:
    code = getattr(function, "__code__", None)
    return code is not None and code.co_filename == file
