"""Batches that come of acting: steps to learn from, and whole episodes to be evaluated by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.acting import Acts, Transition
from dltrain.contracts.data import Batch, Stream, epoch_seed
from dltrain.data.environments.seat import Seat
from dltrain.errors import UserError

MakeSeat = Callable[[], Seat]


class ActingStream(Stream):
    """What ``task`` learns from while it acts in ``count`` environments; it never ends.

    Besides the columns of the task's experience, each batch says of the episodes that ended since
    the one before how many they are (``episodes``), and their mean ``episode_return`` and
    ``episode_length``: the same (rows,) in every row. Where there were none, all three are 0.

    Each environment's episodes have seeds of their own. Rewards are cut at ``clip_reward``, where
    that is given; returns are of what the environment gave.
    """

    steps_per_epoch = None

    def __init__(
        self,
        task: Acts,
        make: MakeSeat,
        count: int,
        device: torch.device,
        seed: int,
        clip_reward: float | None = None,
    ) -> None:
        self._task, self._device, self._seed = task, device, seed
        self._clip = clip_reward
        self._seats = [make() for _ in range(count)]
        self._experience = task.experience(count, device, epoch_seed(seed, 2))
        self._generator = torch.Generator().manual_seed(epoch_seed(seed, 3))
        self._numbers = np.zeros(count, np.int64)
        """Of each environment's episode, from 0."""
        self._returns = np.zeros(count)
        self._current = self._seats[0].spaces.empty(count)
        for who in range(count):
            self._current[who] = self._seats[who].reset(self._episode_seed(who))
        self.steps, self.episodes = 0, 0
        """Taken and ended so far."""
        self._ended: list[tuple[float, int]] = []

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """From here on, whatever ``epoch`` and ``start``: what was before is the past."""
        while True:
            batch = self._experience.take()
            while batch is None:
                self._go_on()
                batch = self._experience.take()
            yield batch | self._told(len(next(iter(batch.values()))))

    def plain(self) -> Iterator[Batch]:
        """Raise :class:`UserError`: these steps are there to be learned from, once."""
        raise UserError(
            "data: an environment has no training split to evaluate: its steps come of training."
        )

    def first(self) -> Batch:
        """What the environments show now."""
        return {"observation": self._observation(np.arange(len(self._seats)))}

    def rows(self, epoch: int, position: int) -> Tensor:
        """None: nothing that can be found again."""
        return torch.empty(0, dtype=torch.int64)

    def scalars(self) -> dict[str, float]:
        """``episodes`` that have ended, and ``environment_steps`` taken in all environments."""
        return {"episodes": self.episodes, "environment_steps": self.steps}

    def state_dict(self) -> dict[str, Any]:
        return {
            "seats": [seat.state_dict() for seat in self._seats],
            "current": torch.from_numpy(self._current.copy()),
            "numbers": torch.from_numpy(self._numbers.copy()),
            "returns": torch.from_numpy(self._returns.copy()),
            "ended": [list(one) for one in self._ended],
            "steps": self.steps,
            "episodes": self.episodes,
            "generator": self._generator.get_state(),
            "experience": self._experience.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Play each environment's episode again, up to where it was.

        Raises :class:`UserError` where it does not lead there: such an environment cannot be
        brought back.
        """
        for who, (seat, kept) in enumerate(zip(self._seats, state["seats"], strict=True)):
            self._current[who] = seat.load_state_dict(kept)
            if not np.array_equal(self._current[who], state["current"][who].cpu().numpy()):
                raise UserError(
                    f"data.environment={seat.name}: its seed and the {len(seat.actions):,} actions "
                    "since do not lead to where it was, so the run cannot be resumed: start it "
                    "again."
                )
        self._numbers = state["numbers"].cpu().numpy()
        self._returns = state["returns"].cpu().numpy()
        self._ended = [(float(total), int(length)) for total, length in state["ended"]]
        self.steps, self.episodes = int(state["steps"]), int(state["episodes"])
        self._generator.set_state(state["generator"].cpu())
        self._experience.load_state_dict(state["experience"])

    def _episode_seed(self, who: int) -> int:
        return epoch_seed(epoch_seed(self._seed, who + 4), int(self._numbers[who]))

    def _observation(self, who: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self._current[who]).to(self._device)

    def _go_on(self) -> None:
        """One step of all environments that do not wait."""
        waiting = self._experience.waiting
        count = len(self._seats)
        who = np.arange(count) if waiting is None else np.flatnonzero(~waiting)
        observation = self._observation(who)
        chosen = self._task.act(observation, self.steps, self._generator)
        actions = _for_environments(chosen["action"])
        reward = np.zeros(len(who), np.float32)
        terminated, truncated = np.zeros(len(who), bool), np.zeros(len(who), bool)
        following = np.empty_like(self._current[who])
        for row, (one, action) in enumerate(zip(who.tolist(), actions, strict=True)):
            answer = self._seats[one].step(action)
            following[row], reward[row] = answer.observation, answer.reward
            terminated[row], truncated[row] = answer.terminated, answer.truncated
            self._returns[one] += answer.reward
            if answer.terminated or answer.truncated:
                self._current[one] = self._next_episode(one)
            else:
                self._current[one] = answer.observation
        self.steps += len(who)
        if self._clip is not None:
            reward = reward.clip(-self._clip, self._clip)
        self._experience.add(
            Transition(
                who,
                observation,
                chosen,
                reward,
                terminated,
                truncated,
                torch.from_numpy(following).to(self._device),
            )
        )

    def _next_episode(self, who: int) -> NDArray[Any]:
        seat = self._seats[who]
        self._ended.append((float(self._returns[who]), len(seat.actions)))
        self.episodes += 1
        self._returns[who] = 0
        self._numbers[who] += 1
        return seat.reset(self._episode_seed(who))

    def _told(self, rows: int) -> Batch:
        """Of the episodes that ended since the last batch."""
        ended, self._ended = self._ended, []
        total, length = np.mean(ended, 0) if ended else (0.0, 0.0)
        told = {"episodes": len(ended), "episode_return": total, "episode_length": length}
        return {
            name: torch.tensor(float(value), device=self._device).expand(rows)
            for name, value in told.items()
        }


class EpisodeStream(Stream):
    """Whole episodes of the best actions, each of a seed of its own, the same ones every time.

    A row is an episode: ``observation`` is its first, ``return`` (rows,) the sum of its rewards,
    ``length`` (rows,) its steps. As many are played at once as a batch has.
    """

    def __init__(
        self,
        task: Acts,
        make: MakeSeat,
        seeds: Sequence[int],
        at_once: int,
        device: torch.device,
    ) -> None:
        self._task, self._make, self._device = task, make, device
        self._seeds, self._at_once = list(seeds), min(at_once, len(seeds))
        self._seats: list[Seat] = []

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self._seeds) // self._at_once)

    @property
    def examples(self) -> int:
        """Episodes."""
        return len(self._seeds)

    @property
    def smallest_batch(self) -> int:
        """Episodes of the last batch."""
        return len(self._seeds) - (self.steps_per_epoch - 1) * self._at_once

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        for position in range(start, self.steps_per_epoch):
            yield self._played([self._seeds[row] for row in self.rows(epoch, position).tolist()])

    def first(self) -> Batch:
        """The first observation of some episodes, of which none is played."""
        begun = self._begun(self._seeds[: self._at_once])
        return {"observation": torch.from_numpy(begun).to(self._device)}

    def rows(self, epoch: int, position: int) -> Tensor:
        first = position * self._at_once
        return torch.arange(first, min(first + self._at_once, len(self._seeds)))

    def _begun(self, seeds: Sequence[int]) -> NDArray[Any]:
        while len(self._seats) < len(seeds):
            self._seats.append(self._make())
        found = self._seats[0].spaces.empty(len(seeds))
        for row, seed in enumerate(seeds):
            found[row] = self._seats[row].reset(seed)
        return found

    def _played(self, seeds: Sequence[int]) -> Batch:
        current = self._begun(seeds)
        first = torch.from_numpy(current.copy()).to(self._device)
        returns = np.zeros(len(seeds))
        going = np.arange(len(seeds))
        while len(going):
            observation = torch.from_numpy(current[going]).to(self._device)
            actions = _for_environments(self._task.best_action(observation))
            still = np.ones(len(going), bool)
            for row, (one, action) in enumerate(zip(going.tolist(), actions, strict=True)):
                answer = self._seats[one].step(action)
                current[one] = answer.observation
                returns[one] += answer.reward
                still[row] = not (answer.terminated or answer.truncated)
            going = going[still]
        lengths = [len(seat.actions) for seat in self._seats[: len(seeds)]]
        return {
            "observation": first,
            "return": torch.from_numpy(returns).float().to(self._device),
            "length": torch.tensor(lengths, device=self._device),
        }


def _for_environments(actions: Tensor) -> Any:
    """One by one: a number where an action is a class, else an array."""
    found = actions.cpu()
    return found.tolist() if found.dim() == 1 else list(found.numpy())
