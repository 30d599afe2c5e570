"""What touches weights besides the optimizer: a limit of their norm, an average of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.contracts.run import Group, Modifier, Progress
from dltrain.contracts.task import Task
from dltrain.errors import UserError

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


class CheckpointAverage(Modifier):
    """Evaluate and use the mean of the weights now and at the last few moments before.

    Moments are ``every_epochs`` apart, and ``count`` weights are averaged, those of now among them
    (Vaswani et al. 2017, section 6.1, average the last checkpoints). Where an epoch has no end,
    ``every_steps`` says it instead. Floating-point buffers are averaged, too. Training goes on with
    the weights themselves, and ``best.pt`` has an average.

    Raises ValueError for fewer than 2 weights, and for moments that are not apart.
    """

    replayable = False

    def __init__(
        self, count: int = 5, every_epochs: float = 1.0, every_steps: int | None = None
    ) -> None:
        if count < 2:
            raise ValueError(f"count is at least 2, got {count}")
        if every_epochs <= 0:
            raise ValueError(f"every_epochs must be above 0, got {every_epochs}")
        if every_steps is not None and every_steps < 1:
            raise ValueError(f"every_steps must be at least 1, got {every_steps}")
        self.count, self.every_epochs, self.every_steps = count, every_epochs, every_steps
        self._task: Task | None = None
        self._values: dict[str, Tensor] = {}
        self._kept: list[dict[str, Tensor]] = []

    def attach(self, task: Task) -> None:
        """Know the task whose weights these are."""
        self._task = task

    def start(self, groups: Mapping[str, Group]) -> None:
        """Know the tensors."""
        assert self._task is not None, "attach comes first"
        named = _named(self._task)
        self._values = {name: one for name, one in named.items() if one.is_floating_point()}

    def before_step(self, progress: Progress) -> None:
        """Keep the weights, where a moment has come."""
        interval = self.every_steps
        if interval is None:
            if progress.steps_per_epoch is None:
                raise UserError(
                    "modifiers.average: the data never ends, and has no epochs; give every_steps."
                )
            interval = max(1, round(self.every_epochs * progress.steps_per_epoch))
        if progress.step and progress.step % interval == 0:
            self._kept.append({name: one.clone() for name, one in self._values.items()})
            del self._kept[: -(self.count - 1)]

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """The mean in the place of the weights; where none is kept yet, the weights."""
        own = list(self._values.values())
        before = [one.clone() for one in own]
        with torch.no_grad():
            for name, one in self._values.items():
                one.copy_(torch.stack([one, *(kept[name] for kept in self._kept)]).mean(0))
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(own, before)

    def state_dict(self) -> dict[str, Any]:
        """The weights that are kept, by name in the task, the oldest first."""
        return {"kept": [dict(one) for one in self._kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, where the weights lie."""
        self._kept = [
            {name: value.to(self._values[name].device) for name, value in one.items()}
            for one in state["kept"]
        ]


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
