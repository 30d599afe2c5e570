"""What touches weights besides the optimizer: a limit of their norm, an average of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.run import Group, Modifier
from dltrain.contracts.task import Task

_NINE = torch.tensor(9.0)


class MaxNorm(Modifier):
    """Keep the incoming weights of every unit within a ball of radius ``limit``.

    After each step the weight vector of a unit (a row of a dense layer, a kernel of a
    convolution) that has left the ball is scaled back to its surface (Srivastava et al.
    2014, section 5.1). Biases and norm scales are left alone.

    Raises ValueError for a limit that is not above 0.
    """

    def __init__(self, limit: float = 3.0) -> None:
        if limit <= 0:
            raise ValueError(f"limit must be above 0, got {limit}")
        self.limit = limit
        self._weights: dict[str, Sequence[nn.Parameter]] = {}

    def start(self, groups: Mapping[str, Group]) -> None:
        """Know each group's weights."""
        self._weights = {name: group.weights for name, group in groups.items()}

    def after_update(self, name: str) -> None:
        """Project each weight matrix of the group, unit by unit."""
        for weight in self._weights[name]:
            if not weight.requires_grad:  # frozen for a while
                continue
            norms = torch.linalg.vector_norm(weight, dim=tuple(range(1, weight.ndim)), keepdim=True)
            weight.mul_((self.limit / norms.clamp_min(1e-12)).clamp_max(1.0))


class EMA(Modifier):
    """Evaluate and use an exponential moving average of the weights (Polyak and Juditsky 1992).

    Averaged are the parameters of ``groups`` (null: of all) and the floating-point buffers, such
    as running statistics, of the modules that they belong to, after each step of the group.
    ``decay`` is reached only after a while, or the average would long remember how the network
    began: after ``n`` steps it is at most (1 + n) / (10 + n). Training goes on with the weights
    themselves.

    Raises ValueError for a decay outside 0 to below 1, and for a group that the task does not have.
    """

    def __init__(self, decay: float = 0.999, groups: Sequence[str] | None = None) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be from 0 to below 1, got {decay}")
        self.decay = decay
        self.groups = groups
        self._task: Task | None = None
        self._values: dict[str, list[Tensor]] = {}
        self._averages: dict[str, dict[str, Tensor]] = {}
        self._counts: dict[str, Tensor] = {}

    def attach(self, task: Task) -> None:
        """See that the task has the groups."""
        has = list(task.parameter_groups())
        missing = [name for name in self.groups or () if name not in has]
        if missing:
            raise ValueError(
                f"groups: this task has no group {missing[0]!r} of parameters; "
                f"it has {', '.join(has)}"
            )
        self._task = task

    def start(self, groups: Mapping[str, Group]) -> None:
        """Begin with the weights as they are."""
        assert self._task is not None, "attach comes first"
        for name in groups if self.groups is None else self.groups:
            values = _averaged(self._task, groups[name].parameters)
            if not values:
                continue
            self._values[name] = list(values.values())
            self._averages[name] = {key: value.clone() for key, value in values.items()}
            device = self._values[name][0].device
            # On the device, where a CUDA graph counts on.
            self._counts[name] = torch.zeros((), dtype=torch.int64, device=device)

    def after_update(self, name: str) -> None:
        """Move the group's average towards its weights."""
        if name not in self._values:
            return
        values = self._values[name]
        # 1 - min(decay, (1 + n) / (10 + n)); a number divided by a tensor would not be exact.
        weight = (_NINE / (self._counts[name].add_(1) + 10)).clamp_min(1 - self.decay)
        weights = [weight.to(value.dtype) for value in values]
        torch._foreach_lerp_(list(self._averages[name].values()), values, weights)

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """The averages are in the place of the weights, which come back afterwards."""
        values = [value for group in self._values.values() for value in group]
        averages = [value for name in self._values for value in self._averages[name].values()]
        with torch.no_grad():
            kept = [value.clone() for value in values]
            torch._foreach_copy_(values, averages)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(values, kept)

    def state_dict(self) -> dict[str, Any]:
        """The averages by group and by name in the task, and the number of steps of each group."""
        return {"averages": self._averages, "counts": self._counts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        for group, averages in self._averages.items():
            _restore(averages, state["averages"][group])
        _restore(self._counts, state["counts"])


def _restore(own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    """In place: what a CUDA graph has recorded stays where it is."""
    for name, value in own.items():
        value.copy_(saved[name])


def _named(task: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, without their gradients."""
    named = (*task.named_parameters(), *task.named_buffers())
    return {name: value.detach() for name, value in named}


def _averaged(task: nn.Module, parameters: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """The ``parameters`` and their modules' buffers, those that are floating-point, by name.

    A buffer belongs to the parameters of its module or, where that has none (a norm without a
    scale), of the nearest module around it that has some; not of the task itself.
    """
    chosen = set(parameters)
    names = {name for name, parameter in task.named_parameters() if parameter in chosen}
    for name, _ in task.named_buffers():
        owner, trained = name.rpartition(".")[0], set[nn.Parameter]()
        while owner and not trained:
            inside = task.get_submodule(owner).parameters()
            trained = {parameter for parameter in inside if parameter.requires_grad}
            owner = owner.rpartition(".")[0]
        if trained and trained <= chosen:
            names.add(name)
    named = _named(task)
    return {
        name: named[name] for name in named if name in names and named[name].is_floating_point()
    }
