"""Tasks that learn by acting: what an environment asks of them, and what they keep of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Transition(NamedTuple):
    """One step of some environments, a row each; ``environments`` (n,) are their numbers.

    Observations (n, …) and ``chosen``, the columns that :meth:`Acts.act` returned, lie on the
    device; what the environments answered lies where they run. An episode that was ``truncated``
    was cut by a limit of time: more reward would have followed. ``next_observation`` belongs to the
    same episode, even where that is over.
    """

    environments: NDArray[np.int64]
    observation: Tensor
    chosen: Mapping[str, Tensor]
    reward: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    next_observation: Tensor


class Experience(ABC):
    """What a task keeps of its steps in environments, and the batches that it learns from."""

    @property
    def waiting(self) -> NDArray[np.bool_] | None:
        """Which environments are to take no step for now (environments,); None: all go on."""
        return None

    @abstractmethod
    def add(self, transition: Transition) -> None:
        """Take in a step of all environments that do not wait."""

    @abstractmethod
    def take(self) -> dict[str, Tensor] | None:
        """The next batch to learn from; None where the environments must go on before it.

        The step on the batch before it is done.
        """

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors and primitives only: what was added, and which batches were handed out."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""


class Played(NamedTuple):
    """An episode that was watched: the sum of its rewards, its steps, and what was seen of it.

    ``frames`` (height, width, 3) uint8.
    """

    total: float
    length: int
    frames: Sequence[NDArray[np.uint8]]


@runtime_checkable
class Plays(Protocol):
    """What a run keeps of its environment, to play in it."""

    def play(
        self, best_action: Callable[[Tensor], Tensor], seeds: Sequence[int], every: int, most: int
    ) -> Iterator[Played]:
        """An episode for each seed; a frame of every so many steps, at most so many of them.

        Raises ``ValueError`` where the environment cannot be made, or shows nothing.
        """


@runtime_checkable
class Acts(Protocol):
    """A task whose answers are actions in an environment."""

    def experience(self, environments: int, device: torch.device, seed: int) -> Experience:
        """A new, empty one, for so many environments; the task learns from it from now on."""

    def act(self, observation: Tensor, steps: int, generator: torch.Generator) -> dict[str, Tensor]:
        """A column ``action`` (n, …), and whatever else is to be kept of this moment.

        For training: it explores, by a ``generator`` on the CPU. ``steps`` have been taken in all
        environments so far.
        """

    def best_action(self, observation: Tensor) -> Tensor:
        """The action (n, …) that is thought best, without chance."""
