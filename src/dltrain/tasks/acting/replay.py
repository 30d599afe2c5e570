"""A replay buffer: what happened, drawn from at random, all of it alike or by surprise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.acting import Experience, Transition
from dltrain.errors import require_at_least, require_between

FEWEST = 2
"""Places of an environment that are no starts: where it is, and what comes after an episode."""


@dataclass(frozen=True)
class Replaying:
    """How a :class:`Replay` keeps and draws.

    ``capacity`` steps are kept, of all environments together. Nothing is drawn before ``warmup``
    of them; then ``updates`` batches of ``batch_size`` after every ``collect`` steps. A row spans
    ``n_step`` steps, whose rewards it sums with ``discount``. ``priority`` is the power to which
    errors are taken (0: all steps alike); a row's weight is its probability to minus a power that
    rises from ``importance`` to 1 over ``importance_batches`` batches (Schaul et al. 2016).

    Raises ValueError for what is out of bounds.
    """

    capacity: int
    warmup: int
    collect: int
    updates: int
    batch_size: int
    n_step: int
    discount: float
    priority: float
    importance: float
    importance_batches: int

    def __post_init__(self) -> None:
        """See that the values are possible."""
        require_at_least(1, collect=self.collect, updates=self.updates, n_step=self.n_step)
        require_at_least(1, batch_size=self.batch_size, importance_batches=self.importance_batches)
        require_between(0, 1, discount=self.discount, importance=self.importance)
        require_at_least(0, priority=self.priority)
        require_at_least(self.n_step, warmup=self.warmup)
        if self.capacity < self.warmup:
            raise ValueError(
                f"capacity must be at least warmup, {self.warmup}; got {self.capacity}"
            )


class Replay(Experience):
    """Experience replay (Lin 1992; Mnih et al. 2015), a ring of places for each environment.

    A batch has ``observation`` and ``next_observation`` (rows, …), ``action`` (rows, …), ``reward``
    (rows,), the discounted sum of the steps in between; ``discount`` (rows,), by which the value of
    the next observation counts, 0 where the episode ended by itself; ``place`` (rows,), for
    :meth:`surprise`, and ``weight`` (rows,). Observations lie on the device, once each: an episode
    that is over has a place more, for its last one.
    """

    def __init__(self, how: Replaying, environments: int, device: torch.device, seed: int) -> None:
        self._how, self._device = how, device
        self._places = max(how.capacity // environments, how.n_step) + FEWEST
        shape = (environments, self._places)
        self._reward = np.zeros(shape, np.float32)
        self._ended = np.zeros(shape, bool)
        """Whether the step that begins here ended its episode, by itself or cut."""
        self._terminated = np.zeros(shape, bool)
        self._start = np.zeros(shape, bool)
        """Whether a row may begin here."""
        self._written = np.zeros(environments, np.int64)
        """Places filled of each environment, over all times."""
        self._observation = self._action = torch.empty(0)
        self._errors = torch.zeros(environments * self._places, device=device)
        self._largest = torch.ones((), device=device)
        self._generator = torch.Generator().manual_seed(seed)
        self._steps = self._owed = self._handed_out = 0
        self._starts: Tensor | None = None

    def __len__(self) -> int:
        """Steps that a row may begin with."""
        return len(self._found_starts())

    def add(self, transition: Transition) -> None:
        """Write each environment's step where its oldest was."""
        if not len(self._observation):
            self._allocate(transition)
        who = transition.environments
        ended = transition.terminated | transition.truncated
        place = self._written % self._places
        at = who, place[who]
        self._put(self._observation, at, transition.observation)
        self._put(self._action, at, transition.chosen["action"])
        self._reward[at], self._ended[at] = transition.reward, ended
        self._terminated[at], self._start[at] = transition.terminated, False
        self._written[who] += 1
        # What comes next stands behind it: the last of an episode stays, another is overwritten.
        after = who, self._written[who] % self._places
        self._put(self._observation, after, transition.next_observation)
        self._start[after] = self._ended[after] = False
        self._begin_rows(who, ended)
        self._written[who[ended]] += 1
        before, self._steps = self._steps, self._steps + len(who)
        if self._steps >= self._how.warmup:
            # As if it were asked after each single step.
            first = max(before, self._how.warmup - 1)
            periods = self._steps // self._how.collect - first // self._how.collect
            self._owed += periods * self._how.updates

    def take(self) -> dict[str, Tensor] | None:
        """A batch, where one is owed."""
        if not self._owed or not len(self):
            return None
        self._owed -= 1
        self._handed_out += 1
        places, weight = self._drawn()
        return self._rows(places) | {"place": places.to(self._device), "weight": weight}

    def surprise(self, places: Tensor, errors: Tensor) -> None:
        """The ``errors`` (rows,) that a step found at ``places``: they are drawn by them."""
        if self._how.priority:
            found = (errors.abs() + 1e-6) ** self._how.priority
            self._errors[places] = found
            self._largest = torch.maximum(self._largest, found.max())

    def state_dict(self) -> dict[str, Any]:
        numbers = ("reward", "ended", "terminated", "start", "written")
        tensors = ("observation", "action", "errors", "largest")
        counts = ("steps", "owed", "handed_out")
        return {
            **{name: torch.from_numpy(getattr(self, f"_{name}").copy()) for name in numbers},
            **{name: getattr(self, f"_{name}") for name in tensors},
            **{name: getattr(self, f"_{name}") for name in counts},
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._reward, self._ended = state["reward"].cpu().numpy(), state["ended"].cpu().numpy()
        self._terminated, self._start = (
            state["terminated"].cpu().numpy(),
            state["start"].cpu().numpy(),
        )
        self._written = state["written"].cpu().numpy()
        for name in ("observation", "action", "errors", "largest"):
            setattr(self, f"_{name}", state[name].to(self._device))
        for name in ("steps", "owed", "handed_out"):
            setattr(self, f"_{name}", int(state[name]))
        self._generator.set_state(state["generator"].cpu())
        self._starts = None

    def _allocate(self, transition: Transition) -> None:
        """Room, once it is known for what."""
        environments = len(self._written)
        for name, column in (
            ("_observation", transition.observation),
            ("_action", transition.chosen["action"]),
        ):
            shape = (environments * self._places, *column.shape[1:])
            setattr(self, name, torch.zeros(shape, dtype=column.dtype, device=self._device))

    def _put(self, kept: Tensor, at: tuple[NDArray[Any], NDArray[Any]], column: Tensor) -> None:
        kept[self._flat(*at).to(self._device)] = column

    def _flat(self, who: NDArray[Any], place: NDArray[Any]) -> Tensor:
        return torch.from_numpy(who * self._places + place)

    def _begin_rows(self, who: NDArray[Any], ended: NDArray[Any]) -> None:
        """Let rows begin where all that they span is known now, and no more where it is not.

        That is so ``n_step`` places back; and at each of those places where an episode ended.
        """
        own = np.ones(len(who), bool)
        for back in range(1, self._how.n_step + 1):
            number = self._written[who] - back
            # Where an episode ended just before, its last observation stands; behind that, another.
            own &= (number >= 0) & ~((number >= 1) & self._ended[who, (number - 1) % self._places])
            known = own & (ended | (back == self._how.n_step))
            if known.any():
                at = who[known], number[known] % self._places
                self._start[at] = True
                if self._how.priority:
                    self._errors[self._flat(*at).to(self._device)] = self._largest
        self._starts = None

    def _found_starts(self) -> Tensor:
        """The places that rows may begin at, found once after a step."""
        if self._starts is None:
            self._starts = torch.from_numpy(np.flatnonzero(self._start))
        return self._starts

    def _drawn(self) -> tuple[Tensor, Tensor]:
        """Places (rows,) and their weights, of which the largest is 1."""
        count = self._how.batch_size
        if not self._how.priority:
            starts = self._found_starts()
            rows = torch.randint(len(starts), (count,), generator=self._generator)
            return starts[rows], torch.ones(count, device=self._device)
        allowed = torch.from_numpy(self._start.reshape(-1)).to(self._device)
        errors = torch.where(allowed, self._errors, 0.0).double()
        total = errors.cumsum(0)
        # One draw from each of as many equal parts: fewer doubles (Schaul et al. 2016).
        uniform = (torch.arange(count) + torch.rand(count, generator=self._generator)) / count
        wanted = uniform.to(self._device, torch.float64) * total[-1]
        places = torch.searchsorted(total, wanted, right=True).clamp(max=len(total) - 1)
        # Rounding may end behind the last that has a probability.
        places = torch.where(allowed[places], places, errors.argmax())
        risen = min(1.0, self._handed_out / self._how.importance_batches)
        power = self._how.importance + (1 - self._how.importance) * risen
        weight = errors[places].pow(-power)
        return places, (weight / weight.max()).float()

    def _rows(self, places: Tensor) -> dict[str, Tensor]:
        where = places.cpu().numpy()
        who, first = np.divmod(where, self._places)
        reward = np.zeros(len(where), np.float32)
        discount = np.ones(len(where), np.float32)
        going = np.ones(len(where), bool)
        place = first.copy()
        for _ in range(self._how.n_step):
            reward += np.where(going, discount * self._reward[who, place], 0)
            discount = np.where(going, discount * np.float32(self._how.discount), discount)
            discount[going & self._terminated[who, place]] = 0
            ended = self._ended[who, place]
            place = np.where(going, (place + 1) % self._places, place)
            going &= ~ended
        begin, end = places.to(self._device), self._flat(who, place).to(self._device)
        return {
            "observation": self._observation[begin],
            "action": self._action[begin],
            "reward": torch.from_numpy(reward).to(self._device),
            "discount": torch.from_numpy(discount).to(self._device),
            "next_observation": self._observation[end],
        }
