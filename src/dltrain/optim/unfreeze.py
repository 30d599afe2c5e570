"""Gradual unfreezing: the head is trained first, the parts below it join one after another."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from torch import nn

from dltrain.contracts.run import Modifier, Progress
from dltrain.contracts.task import Task
from dltrain.optim.patterns import PatternError, named_by

logger = logging.getLogger(__name__)

REST = "*"


class Unfreeze(Modifier):
    """Train parts of the network one after another, from the head down (Howard and Ruder 2018).

    ``parts`` are patterns (:func:`~dltrain.optim.patterns.named_by`), the first trained from the
    beginning; a list of patterns is one part. A parameter belongs to the first part that names it;
    one that none names is frozen throughout. Null: what the network is made of, last first, each
    norm with what is before it. ``epochs`` lie between one part and the next, or are a list: when
    each part after the first joins, counted from the run's beginning; ``steps`` likewise, instead.

    What is frozen gets no gradient, no weight decay and no optimizer state; it is in eval mode, so
    it has no dropout and its batch norm statistics stay. All follows from the step alone, so that a
    resumed run goes on as it was.

    Raises ValueError for parts that name nothing, or that leave a group without anything to train,
    and for times that are not positive, do not rise, or are others in number.
    """

    replayable = False
    freezes = True

    def __init__(
        self,
        parts: Sequence[str | Sequence[str]] | None = None,
        epochs: float | Sequence[float] = 1.0,
        steps: int | Sequence[int] | None = None,
    ) -> None:
        self.parts = None if parts is None else [[p] if isinstance(p, str) else [*p] for p in parts]
        if self.parts is not None and not all([*self.parts, len(self.parts) > 1]):
            raise ValueError("parts are two or more, each with a name")
        self._name = "epochs" if steps is None else "steps"
        self._times: float | Sequence[float] = epochs if steps is None else steps
        given = [self._times] if isinstance(self._times, (int, float)) else list(self._times)
        rising = all(a < b for a, b in zip([0, *given], given, strict=False))
        if not given or not rising:
            raise ValueError(f"{self._name} are positive, and rise; got {self._times}")
        if self.parts is not None:
            self._require_times(len(self.parts))
        self._task: Task | None = None
        self._starts: list[int] = []
        self._joined: int | None = None
        self._frozen: list[nn.Module] = []

    def attach(self, task: Task) -> None:
        """Find the parts."""
        self._task = task
        self._parts = _parts_of(task) if self.parts is None else self.parts
        self._require_times(len(self._parts))
        fixed = {parameter for parameter in task.parameters() if not parameter.requires_grad}
        part_of: dict[nn.Parameter, int] = {}
        for number, patterns in enumerate(self._parts):
            try:
                named = named_by(patterns, task)
            except PatternError as error:
                raise ValueError(f"parts: {error}") from error
            for pattern, parameters in named.items():
                new = [p for p in parameters if p not in part_of and p not in fixed]
                if not new and self.parts is not None:
                    raise ValueError(
                        f"parts: all that {pattern!r} names is frozen by the model, or named before"
                    )
                part_of.update(dict.fromkeys(new, number))
        for group, members in task.parameter_groups().items():
            if members and not any(part_of.get(parameter) == 0 for parameter in members):
                raise ValueError(
                    f"parts: the first has nothing of {group!r}, so that nothing of it is trained"
                )
        never = len(part_of)  # a part that never begins
        # By name: moving a network to its device may make other objects of its parameters.
        self._part_of = {
            name: part_of.get(parameter, never)
            for name, parameter in task.named_parameters()
            if parameter not in fixed
        }
        count = sum(part == never for part in self._part_of.values())
        if count:
            logger.info("unfreeze: %d tensors are in no part, and stay frozen.", count)

    def before_step(self, progress: Progress) -> None:
        """Freeze or unfreeze what this step asks for."""
        if not self._starts:
            self._starts = self._steps_of(progress)
        joined = bisect_right(self._starts, progress.step)
        if joined != self._joined:
            self._joined = joined
            self._set(joined)
        for module in self._frozen:
            # The loop has put the whole task into training mode again.
            if module.training:
                module.eval()

    def _set(self, joined: int) -> None:
        """Train the parts that have begun, and no other."""
        assert self._task is not None, "attach comes first"
        for name, parameter in self._task.named_parameters():
            if name in self._part_of:
                parameter.requires_grad_(self._part_of[name] < joined)
        self._task.train()
        self._frozen = list(_frozen_modules(self._task))
        trained = sum(p.numel() for p in self._task.parameters() if p.requires_grad)
        names = ", ".join(name for part in self._parts[:joined] for name in part)
        logger.info("unfreeze: trained are %s: %s weights.", names, f"{trained:,}")

    def _steps_of(self, progress: Progress) -> list[int]:
        """The step at which each part begins."""
        if isinstance(self._times, (int, float)):
            times = [self._times * number for number in range(len(self._parts))]
        else:
            times = [0, *self._times]
        # Data that never ends has one epoch: the run.
        epoch = progress.steps_per_epoch or progress.max_steps
        starts = [round(time * (epoch if self._name == "epochs" else 1)) for time in times]
        late = bisect_right(starts, progress.max_steps - 1)
        if late < len(starts):
            logger.warning(
                "unfreeze: %s would be trained from step %s on, and the run has %s.",
                *(", ".join(self._parts[late]), f"{starts[late]:,}", f"{progress.max_steps:,}"),
            )
        return starts

    def _require_times(self, parts: int) -> None:
        """See that a list of times has one for each part after the first."""
        if not isinstance(self._times, (int, float)) and len(self._times) != parts - 1:
            raise ValueError(
                f"{self._name} are one number, or one for each of the {parts - 1} parts after "
                f"the first; got {len(self._times)}"
            )


def _parts_of(task: nn.Module) -> list[list[str]]:
    """What the network is made of, from the last to the first."""
    name, children = "", _with_parameters(task)
    while len(children) == 1:
        (inner, module) = children[0]
        name = f"{name}{inner}."
        children = _with_parameters(module)
    if not children:
        raise ValueError("parts: the network has one layer, of which there are no parts")
    parts: list[list[str]] = []
    for inner, module in children:
        if parts and all(parameter.ndim < 2 for parameter in module.parameters()):
            parts[-1].append(f"{name}{inner}")
        else:
            parts.append([f"{name}{inner}"])
    parts.reverse()
    parts[-1].append(REST)  # parameters of the network itself, such as a class token
    return parts


def _with_parameters(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [
        (n, child) for n, child in module.named_children() if any(True for _ in child.parameters())
    ]


def _frozen_modules(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost modules that have parameters, all of them frozen."""
    parameters = list(module.parameters())
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        yield module
        return
    for child in module.children():
        yield from _frozen_modules(child)
