"""One environment that somebody plays, and how it is brought back to where it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dltrain.data.environments.spaces import Spaces
from dltrain.errors import UserError


class Answer(NamedTuple):
    """What an environment says to an action."""

    observation: NDArray[Any]
    reward: float
    terminated: bool
    truncated: bool


class Seat:
    """An environment, the seed of its episode, and all actions since.

    By those it is brought back: a run folder holds no object of anybody's class. Each method raises
    :class:`UserError` where the environment raises whatever it does, or gives what is no number.
    """

    def __init__(self, name: str, make: Callable[[], Any], spaces: Spaces) -> None:
        self.name, self.spaces = name, spaces
        self.environment = make()
        self.seed = 0
        self.actions: list[Any] = []

    def reset(self, seed: int) -> NDArray[Any]:
        """Begin an episode; return its first observation."""
        self.seed, self.actions = seed, []
        try:
            raw, _ = self.environment.reset(seed=seed)
            found = self.spaces.observation(raw)
        except Exception as error:  # whatever a stranger's environment raises
            raise self._failed("in reset", error) from error
        self._require_numbers(found, 0.0)
        return found

    def step(self, action: Any) -> Answer:
        """Take an action, as tasks have it: a number, or numbers (…)."""
        self.actions.append(action)
        try:
            raw, reward, terminated, truncated, _ = self.environment.step(
                self.spaces.action(action)
            )
            found = self.spaces.observation(raw)
            answer = Answer(found, float(reward), bool(terminated), bool(truncated))
        except Exception as error:
            raise self._failed(f"in step {len(self.actions):,}", error) from error
        self._require_numbers(found, answer.reward)
        return answer

    def state_dict(self) -> dict[str, Any]:
        """The seed and the actions."""
        return {"seed": self.seed, "actions": torch.from_numpy(np.asarray(self.actions))}

    def load_state_dict(self, state: Mapping[str, Any]) -> NDArray[Any]:
        """Play the episode again; return its last observation."""
        found = self.reset(int(state["seed"]))
        actions = state["actions"].cpu().numpy()
        for action in actions.tolist() if actions.ndim == 1 else actions:
            found = self.step(action).observation
        return found

    def _require_numbers(self, observation: NDArray[Any], reward: float) -> None:
        if not np.isfinite(reward):
            raise UserError(f"{self._where()} gave a reward of {reward}.")
        if observation.shape != self.spaces.shape:
            raise UserError(
                f"{self._where()} showed {observation.shape} numbers, and not {self.spaces.shape}."
            )
        if not self.spaces.bytes and not np.isfinite(observation).all():
            bad = observation[~np.isfinite(observation)].reshape(-1)[0]
            raise UserError(f"{self._where()} showed an observation with {bad} in it.")

    def _where(self) -> str:
        return (
            f"data.environment={self.name}: in step {len(self.actions):,} of the episode of seed "
            f"{self.seed} it"
        )

    def _failed(self, when: str, error: Exception) -> UserError:
        told = " ".join(str(error).split())
        return UserError(
            f"data.environment={self.name}: {when} of the episode of seed {self.seed} it raised "
            f"{type(error).__name__}: {told}"
        )
