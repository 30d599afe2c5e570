"""A split whose inputs are attacked before they are evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from dltrain.config import compose as composition
from dltrain.config.build import plan
from dltrain.contracts.attack import Attack, Attackable, AttackScores
from dltrain.contracts.data import Batch, DataSpec, Stream
from dltrain.contracts.task import Task
from dltrain.core.evaluate import noise_at
from dltrain.errors import ConfigError, Fault, UserError

GROUP, WITHIN = "attack", "task.attack"
"""What is typed, and where a config has it."""
EPSILON = "attack.epsilon"


class Attacked(Stream):
    """The batches of ``stream``, in order, as ``attack`` changes them to mislead ``task``.

    Gradients are had in here alone, whatever mode it is asked in.
    """

    def __init__(self, stream: Stream, task: Attackable, spec: DataSpec, attack: Attack) -> None:
        self._stream, self._task, self._attack = stream, task, attack
        self._input = next(name for name, field in spec.fields.items() if field.role == "input")

    @property
    def steps_per_epoch(self) -> int | None:
        return self._stream.steps_per_epoch

    @property
    def examples(self) -> int | None:
        return self._stream.examples

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        assert not epoch and not start, "an evaluation begins at the beginning"
        return (batch for _, batch in self.dealt(0, 1))

    def dealt(self, rank: int, world: int) -> Iterator[tuple[int, Batch]]:
        for position, batch in self._stream.dealt(rank, world):
            yield position, {**batch, self._input: self._changed(batch, position)}

    def rows(self, epoch: int, position: int) -> Tensor:
        return self._stream.rows(epoch, position)

    def _changed(self, batch: Batch, position: int) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            # What was made in inference mode takes part in no gradient; a copy does.
            plain = {name: column.clone() for name, column in batch.items()}

            def scores(inputs: Tensor) -> AttackScores:
                return self._task.attack_scores({**plain, self._input: inputs})

            return self._attack.strongest(scores, plain[self._input], noise_at(position))


def attacked(stream: Stream, task: Task, spec: DataSpec, node: Mapping[str, Any]) -> Stream:
    """``stream`` under the attack that ``node`` describes.

    Raises :class:`UserError` where the task or its data cannot be attacked.
    """
    if not isinstance(task, Attackable):
        raise UserError(
            f"attack: {type(task).__name__} has no loss of each example to raise; a "
            "classification has."
        )
    attack = plan(node, Attack, GROUP, spec=spec).make()
    return Attacked(stream, task, spec, attack)


def attack_of(overrides: Sequence[str]) -> tuple[list[dict[str, Any]], list[str], str]:
    """The attacks that ``overrides`` name, one for each epsilon; the other overrides; its name.

    ``attack=NAME`` chooses one, ``attack.KEY=…`` changes it; ``attack.epsilon=[0.1,0.2]`` is
    several. No attack: an empty list. Raises :class:`ConfigError` for what there is not.
    """
    own = [one for one in overrides if one.partition("=")[0].partition(".")[0] == GROUP]
    others = [one for one in overrides if one not in own]
    if not own:
        return [], others, ""
    choices = [one.partition("=")[2] for one in own if one.partition("=")[0] == GROUP]
    settings = [one for one in own if one.partition("=")[0] != GROUP]
    _, values = composition.assigned(settings, GROUP)
    if not choices:
        raise ConfigError([Fault(next(iter(values)), "choose an attack first: attack=pgd.")])
    choice, epsilons = choices[-1], values.get(EPSILON)
    several = list(epsilons) if isinstance(epsilons, list) else [epsilons]
    typed = [one for one in settings if one.partition("=")[0] != EPSILON]
    composed = ["task=adversarial_training", f"task/{GROUP}={choice}"]
    try:
        node = composition.compose([*composed, *(f"task.{one}" for one in typed)])["task"][GROUP]
    except ConfigError as error:
        raise ConfigError([_as_typed(fault) for fault in error.faults]) from error
    nodes = [node if one is None else {**node, "epsilon": one} for one in several]
    if not nodes:
        raise ConfigError([Fault(EPSILON, "give one or more, as in [0.1,0.2].")])
    return nodes, others, choice


def _as_typed(fault: Fault) -> Fault:
    """By the key that is typed, and not where a config has it."""
    shown = {
        name: getattr(fault, name).replace(WITHIN, GROUP).replace(f"task/{GROUP}", GROUP)
        for name in ("key", "problem", "hint")
    }
    return replace(fault, **shown)
