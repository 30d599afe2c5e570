"""Where an L2 penalty is decayed: by the optimizer, where that is the same, else in the loss."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dltrain.contracts.run import Regularizer

# Those whose weight decay adds weight_decay * w to the gradient. Others shrink the weight itself
# (AdamW, Adafactor, Muon), and of one that is not from torch nobody can know.
_COUPLED = {
    torch.optim.ASGD,
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adam,
    torch.optim.Adamax,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
    torch.optim.SGD,
}


def with_decay_where_exact(
    settings: Mapping[str, Any],
    optimizer: type[torch.optim.Optimizer],
    regularizers: Iterable[Regularizer],
) -> tuple[float, list[Regularizer]]:
    """Return the weight decay to ask of ``optimizer``, and the penalties left over.

    An L2 penalty costs nothing inside an optimizer that adds ``weight_decay * w`` to the
    gradient. One with decoupled decay (AdamW; Loshchilov and Hutter 2019) does something
    else, so there, and in any that is not known, the penalty joins the loss.
    """
    parameter = inspect.signature(optimizer).parameters.get("weight_decay")
    default = 0.0 if parameter is None else parameter.default
    decay = float(settings.get("weight_decay", default))
    left = list(regularizers)
    l2 = sum(regularizer.weight_decay for regularizer in left)
    if not l2:
        return decay, left
    if optimizer in _COUPLED and not settings.get("decoupled_weight_decay", False):
        return decay + l2, left
    return decay, [*left, _L2Penalty(l2)]


class _L2Penalty(Regularizer):
    def __init__(self, strength: float) -> None:
        self.strength = strength

    def penalty(self, weights: Sequence[Tensor]) -> Tensor:
        return self.strength / 2 * torch.stack([w.square().sum() for w in weights]).sum()
