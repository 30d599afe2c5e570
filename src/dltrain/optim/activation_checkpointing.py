"""Activation checkpointing: a block's inner activations are computed twice instead of kept."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.run import Modifier
from dltrain.contracts.task import Task

LISTS = (nn.ModuleList, nn.Sequential)
SHOWN = 8
"""Names that are listed where none is near."""
Buffers = list[tuple[nn.Module, str, Tensor]]


class ActivationCheckpointing(Modifier):
    """Keep what goes into each block, and compute the rest again in backward (Chen et al. 2016).

    Gradients are those of a step without it, to the last bit: dropout draws the same again, and a
    block's buffers (batch norm's means, say) are updated once. A step does the forward pass of the
    blocks twice, so it takes about a third longer.

    ``blocks`` are names of modules, in which ``*`` and ``?`` stand for any letters; what all names
    begin with (``model.``) may be left out. Null: the members of lists of modules that are made of
    several parts themselves, such as the layers of a transformer or the blocks of a ResNet.

    Raises ValueError where there are no such blocks, or a name is that of none.
    """

    replayable = False

    def __init__(self, blocks: Sequence[str] | None = None) -> None:
        if blocks is not None and not blocks:
            raise ValueError("blocks are names of modules, or null; got none")
        self.blocks = None if blocks is None else list(blocks)

    def attach(self, task: Task) -> None:
        """Have the blocks forget."""
        found = _lists_of_blocks(task) if self.blocks is None else _named(self.blocks, task)
        for block in _outermost(found):
            forgetful: Any = block
            forgetful.__class__ = _forgetful(forgetful.__class__)

    def finish(self, task: Task) -> None:
        """What is used has nothing to forget."""
        for module in task.modules():
            if isinstance(module, Forgetful):
                whole: Any = module
                whole.__class__ = type(module).__bases__[1]


class Forgetful(nn.Module):
    """What a block does before its own forward pass; see :class:`ActivationCheckpointing`."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """As the block itself. Where no gradients are asked for there is nothing to keep."""
        whole = functools.partial(super().forward, *inputs, **named)
        if not torch.is_grad_enabled():
            return whole()
        # As they are now, for the second time; what it does to them is done already.
        before = [
            (module, name, value.clone())
            for module in self.modules()
            for name, value in module._buffers.items()
            if value is not None
        ]

        def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
            return nullcontext(), _buffers(before)

        return checkpoint(whole, use_reentrant=False, context_fn=contexts)


@functools.cache
def _forgetful(kind: type[nn.Module]) -> type[nn.Module]:
    """A class like ``kind``, of the same name."""
    return type(kind.__name__, (Forgetful, kind), {"__module__": kind.__module__})


@contextmanager
def _buffers(values: Buffers) -> Iterator[None]:
    """While inside, modules have ``values`` for their buffers."""
    own = [(module, name, module._buffers[name]) for module, name, _ in values]
    for module, name, value in values:
        module._buffers[name] = value
    try:
        yield
    finally:
        for module, name, kept in own:
            module._buffers[name] = kept


def _lists_of_blocks(task: nn.Module) -> list[nn.Module]:
    """Members of lists that have parts and parameters."""
    found = [
        member
        for module in task.modules()
        if isinstance(module, LISTS)
        for member in module
        if any(True for _ in member.children()) and any(True for _ in member.parameters())
    ]
    if not found:
        names = ", ".join(list(_names(task))[:SHOWN])
        raise ValueError(f"blocks: the network has no list of blocks; name some of {names}")
    return found


def _named(patterns: Sequence[str], task: nn.Module) -> list[nn.Module]:
    """The modules that ``patterns`` name."""
    names, found = _names(task), []
    for pattern in patterns:
        named = [module for name, module in names.items() if fnmatchcase(name, pattern)]
        if not named:
            hint = did_you_mean(pattern, names) or f"There are {', '.join([*names][:SHOWN])}."
            raise ValueError(f"blocks: the network has no module {pattern!r}. {hint}")
        found += named
    return found


def _names(task: nn.Module) -> dict[str, nn.Module]:
    """Modules with parameters by name; also without each beginning that all names share."""
    found: dict[str, nn.Module] = {}
    inner = {
        name: module
        for name, module in task.named_modules()
        if name and any(True for _ in module.parameters())
    }
    while inner:
        found = {**inner, **found}
        if len({name.partition(".")[0] for name in inner}) > 1:
            break
        inner = {name.partition(".")[2]: module for name, module in inner.items() if "." in name}
    return found


def _outermost(found: Sequence[nn.Module]) -> list[nn.Module]:
    """Those that lie in no other of them, each once."""
    inner = {id(part) for block in found for part in list(block.modules())[1:]}
    return [block for block in dict.fromkeys(found) if id(block) not in inner]
