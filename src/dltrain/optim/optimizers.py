"""One optimizer for a group of a task's parameters, some of which may have their own rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from dltrain.config.build import build, plan
from dltrain.contracts.run import Group, Modifier, Regularizer
from dltrain.errors import ConfigError, Fault
from dltrain.optim.weight_decay import with_decay_where_exact

Settings = Mapping[str, Any]

SPARSE = (torch.optim.SGD, torch.optim.Adagrad)
"""Those that take sparse gradients beside whole ones."""


def make_optimizer(
    settings: Settings,
    own: Mapping[str, Settings],
    named: Mapping[str, Iterable[nn.Parameter]],
    group: Group,
    regularizers: Sequence[Regularizer],
    device: torch.device,
    modifiers: Sequence[Modifier] = (),
    sparse: bool = False,
) -> tuple[torch.optim.Optimizer, list[Regularizer]]:
    """The optimizer of ``group``, which decays its weights alone, and the penalties left over.

    What a pattern names (``named``) has that pattern's settings (``own``) before those for all.
    ``sparse``: some gradients have a few rows alone, which not every optimizer takes.
    """
    target = plan(settings, torch.optim.Optimizer, "optimizer", {"params": []}).target
    assert target is not None
    _, penalties = with_decay_where_exact(settings, target, regularizers)
    pattern_of = {parameter: pattern for pattern in named for parameter in named[pattern]}
    decayed, groups = set(group.weights), []
    for pattern in ("", *named):
        options = own.get(pattern, {})
        decay, _ = with_decay_where_exact({**settings, **options}, target, regularizers)
        inside = [p for p in group.parameters if pattern_of.get(p, "") == pattern]
        weights, others = (
            [p for p in inside if p in decayed],
            [p for p in inside if p not in decayed],
        )
        if not decay:  # one group steps faster than two
            weights, others = [], inside
        groups += [
            {**options, "params": part, "weight_decay": rate, "pattern": pattern}
            for part, rate in ((weights, decay), (others, 0.0))
            if part
        ]
    if sparse:
        _require_sparse(target, any(one["weight_decay"] for one in groups))
    optimizer = build(
        {key: value for key, value in settings.items() if key != "weight_decay"},
        torch.optim.Optimizer,
        "optimizer",
        params=groups,
        fused=not sparse and _has_fused(target, device, any(one.freezes for one in modifiers)),
    )
    return optimizer, penalties


def _require_sparse(optimizer: type[torch.optim.Optimizer], decays: bool) -> None:
    """Raise :class:`ConfigError` where gradients of a few rows alone cannot be used."""
    if optimizer not in SPARSE:
        hint = f"{' and '.join(one.__name__ for one in SPARSE)} do: optimizer=adagrad."
        problem = f"{optimizer.__name__} takes no gradients of a few rows alone (model.sparse)."
    elif decays:
        problem, hint = "weight decay needs whole gradients, and model.sparse gives none.", ""
    else:
        return
    raise ConfigError([Fault("optimizer", problem, hint)])


def _has_fused(
    optimizer: type[torch.optim.Optimizer], device: torch.device, joining: bool
) -> bool | None:
    """Whether torch's one-kernel form of ``optimizer``, the fastest, runs on ``device``.

    ``joining``: some parameters get their first gradient later than others.
    """
    if joining and issubclass(optimizer, torch.optim.SGD):
        return False  # it wants the momentum of all, or of none
    if device.type == "cuda" and optimizer is torch.optim.Adagrad:
        return None
    return True if device.type in ("cpu", "cuda") else None
