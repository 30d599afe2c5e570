"""What on-policy tasks keep: steps of the policy as it is now, thrown away once learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.acting import Experience, Transition
from dltrain.errors import require_at_least, require_between


@dataclass(frozen=True)
class Collecting:
    """How :class:`Rollouts` are collected and handed out.

    ``steps`` of each environment are gone through ``epochs`` times, in batches of ``batch_size``,
    in another order each time. ``discount`` and ``gae`` are gamma and lambda of the generalized
    advantage estimation.

    Raises ValueError for what is out of bounds.
    """

    steps: int
    epochs: int
    batch_size: int
    discount: float
    gae: float

    def __post_init__(self) -> None:
        """See that the values are possible."""
        require_at_least(1, steps=self.steps, epochs=self.epochs, batch_size=self.batch_size)
        require_between(0, 1, discount=self.discount, gae=self.gae)


class Rollouts(Experience):
    """Some steps of all environments, with advantages (Schulman et al. 2016).

    A batch has ``observation``, the columns of :meth:`~dltrain.contracts.acting.Acts.act` (among
    them ``value``), ``advantage`` (rows,) and ``return`` (rows,), which is their sum. ``values``
    (n,) of observations (n, …) are asked for where an episode goes on beyond what was collected.
    """

    def __init__(
        self,
        how: Collecting,
        values: Callable[[Tensor], Tensor],
        device: torch.device,
        seed: int,
    ) -> None:
        self._how, self._values, self._device = how, values, device
        self._steps: list[dict[str, Tensor]] = []
        self._next = torch.empty(0)
        self._rows: dict[str, Tensor] = {}
        self._order: Tensor | None = None
        self._position = 0
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, transition: Transition) -> None:
        reward = torch.from_numpy(transition.reward).to(self._device)
        cut = transition.truncated & ~transition.terminated
        if cut.any():
            # What would have followed, as far as can be told, belongs to the last step.
            where = torch.from_numpy(np.flatnonzero(cut)).to(self._device)
            reward[where] += self._how.discount * self._values(transition.next_observation[where])
        ended = torch.from_numpy(transition.terminated | transition.truncated).to(self._device)
        self._steps.append(
            {
                "observation": transition.observation,
                **transition.chosen,
                "reward": reward,
                "going": (~ended).float(),
            }
        )
        self._next = transition.next_observation
        if len(self._steps) == self._how.steps:
            self._finish()

    def take(self) -> dict[str, Tensor] | None:
        """The next rows of this epoch; None once all epochs are over."""
        if self._order is None:
            return None
        count, size = self._order.numel(), self._how.batch_size
        rows = self._order.view(-1)[self._position : self._position + size]
        epoch_end = (self._position // self._order.shape[1] + 1) * self._order.shape[1]
        rows = rows[: epoch_end - self._position].to(self._device)
        batch = {name: column[rows] for name, column in self._rows.items()}
        self._position += len(rows)
        if self._position == count:
            self._order, self._rows = None, {}
        return batch

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": [dict(step) for step in self._steps],
            "next": self._next,
            "rows": dict(self._rows),
            "order": self._order,
            "position": self._position,
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._steps = [
            {name: column.to(self._device) for name, column in step.items()}
            for step in state["steps"]
        ]
        self._next = state["next"].to(self._device)
        self._rows = {name: column.to(self._device) for name, column in state["rows"].items()}
        order = state["order"]
        self._order = None if order is None else order.cpu()
        self._position = int(state["position"])
        self._generator.set_state(state["generator"].cpu())

    def _finish(self) -> None:
        """Make rows of the steps, with what came of each."""
        columns = _stacked(self._steps)
        self._steps = []
        values, going = columns["value"], columns["going"]
        following = torch.cat([values[1:], self._values(self._next)[None]])
        found = columns["reward"] + self._how.discount * following * going - values
        kept = self._how.discount * self._how.gae * going
        total = torch.zeros_like(found[0])
        advantages = torch.empty_like(found)
        for step in range(len(found) - 1, -1, -1):
            total = found[step] + kept[step] * total
            advantages[step] = total
        columns |= {"advantage": advantages, "return": advantages + values}
        self._rows = {
            name: column.flatten(0, 1)
            for name, column in columns.items()
            if name not in ("reward", "going")
        }
        count = advantages.numel()
        self._order = torch.stack(
            [torch.randperm(count, generator=self._generator) for _ in range(self._how.epochs)]
        )
        self._position = 0


class WholeEpisodes(Experience):
    """One episode of each environment, all of them one batch; those that are over wait.

    Had each environment gone on, more of the short episodes than of the long ones would be among
    those that are over. A batch has ``observation``, the columns of
    :meth:`~dltrain.contracts.acting.Acts.act` and ``return`` (rows,): what followed, discounted.
    """

    def __init__(self, environments: int, discount: float, device: torch.device) -> None:
        require_between(0, 1, discount=discount)
        self._discount, self._device = discount, device
        self._columns: list[dict[str, Tensor]] = []
        self._who: list[NDArray[np.int64]] = []
        self._reward: list[NDArray[np.float32]] = []
        self._over = np.zeros(environments, bool)

    @property
    def waiting(self) -> NDArray[np.bool_]:
        return self._over

    def add(self, transition: Transition) -> None:
        self._columns.append({"observation": transition.observation, **transition.chosen})
        self._who.append(transition.environments)
        self._reward.append(transition.reward)
        self._over[transition.environments] = transition.terminated | transition.truncated

    def take(self) -> dict[str, Tensor] | None:
        """All steps of all episodes, once all are over."""
        if not self._over.all():
            return None
        following = np.zeros(len(self._over), np.float32)
        returns = []
        for who, reward in zip(self._who[::-1], self._reward[::-1], strict=True):
            following[who] = reward + np.float32(self._discount) * following[who]
            returns.append(following[who])
        found = torch.from_numpy(np.concatenate(returns[::-1])).to(self._device)
        names = self._columns[0]
        batch = {name: torch.cat([step[name] for step in self._columns]) for name in names}
        self._columns, self._who, self._reward = [], [], []
        self._over = np.zeros_like(self._over)
        return batch | {"return": found}

    def state_dict(self) -> dict[str, Any]:
        return {
            "columns": [dict(step) for step in self._columns],
            "who": [torch.from_numpy(who) for who in self._who],
            "reward": [torch.from_numpy(reward) for reward in self._reward],
            "over": torch.from_numpy(self._over.copy()),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._columns = [
            {name: column.to(self._device) for name, column in step.items()}
            for step in state["columns"]
        ]
        self._who = [who.cpu().numpy() for who in state["who"]]
        self._reward = [reward.cpu().numpy() for reward in state["reward"]]
        self._over = state["over"].cpu().numpy()


def _stacked(steps: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Columns (steps, environments, …)."""
    return {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
