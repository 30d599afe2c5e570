"""Environments of Gymnasium."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from dltrain.contracts.acting import Acts
from dltrain.contracts.data import DataSpec, Placement, Reader, Source, Stream, epoch_seed
from dltrain.data.environments.making import LONGEST, made, own_limit
from dltrain.data.environments.reader import EnvironmentReader
from dltrain.data.environments.seat import Seat
from dltrain.data.environments.spaces import Spaces
from dltrain.data.environments.streams import ActingStream, EpisodeStream
from dltrain.errors import UserError, require_at_least

logger = logging.getLogger(__name__)

TRIES, TRIED = 3, 50
"""Episodes that are tried with actions by chance, and steps of each at most."""
VALIDATION, TEST = 1, 2
"""What the seeds of these episodes are made of, whatever the seed of the run."""


class Gym(Source):
    """An environment of Gymnasium, in which the task acts: its steps are the training split.

    ``environment`` is an id such as CartPole-v1, and ``options`` are what its constructor takes.
    The task acts in ``environments`` copies at once. ``validation`` and ``test`` are numbers of
    episodes that an evaluation plays with the best actions, of seeds that no training episode has;
    0: none. An episode is cut after ``max_episode_steps`` (None: the environment's own limit, or
    10,000). Rewards to learn from are cut at plus and minus ``clip_reward`` (None: as they are).
    ``single_step`` allows an environment whose episodes end with their first step.

    Raises ValueError for an environment that cannot be made, or that shows or asks for what no
    network here reads or gives.
    """

    def __init__(
        self,
        environment: str,
        options: Mapping[str, Any] | None = None,
        environments: int = 8,
        validation: int = 20,
        test: int = 100,
        max_episode_steps: int | None = None,
        clip_reward: float | None = None,
        single_step: bool = False,
    ) -> None:
        require_at_least(1, environments=environments)
        require_at_least(0, validation=validation, test=test)
        if max_episode_steps is not None:
            require_at_least(1, max_episode_steps=max_episode_steps)
        if clip_reward is not None and not clip_reward > 0:
            raise ValueError(f"clip_reward must be above 0, or null; got {clip_reward}")
        self.environment, self.options = environment, dict(options or {})
        self.environments = environments
        self._counts = {"validation": validation, "test": test}
        self._longest, self._clip = max_episode_steps, clip_reward
        self._single_step = single_step
        tried = self._made()
        try:
            self._spaces = Spaces(environment, tried)
        finally:
            tried.close()

    def outline(self) -> DataSpec:
        """Observations and actions."""
        return self._spaces.spec

    def read(self, seed: int) -> DataSpec:
        """Try a few episodes: what fails at once should not fail after hours."""
        one, other = self._seat(), self._seat()
        lengths, same = [], True
        for number in range(TRIES):
            length, repeated = self._tried(one, other, epoch_seed(seed, number))
            lengths.append(length)
            same &= repeated
        if max(lengths) == 1 and not self._single_step:
            raise ValueError(
                f"environment {self.environment}: each of {TRIES} episodes with actions by chance "
                "ended with its first step: nothing follows from an action. single_step=true "
                "allows that"
            )
        if not same:
            logger.warning(
                "data.environment=%s: the same seed and actions lead elsewhere when they are "
                "repeated: a run on it cannot be resumed.",
                self.environment,
            )
        if self._longest is None and own_limit(self.environment) is None:
            logger.info(
                "data.environment=%s has no limit of steps: its episodes are cut after %s "
                "(data.max_episode_steps).",
                *(self.environment, f"{LONGEST:,}"),
            )
        return self.outline()

    def open(self, placement: Placement) -> dict[str, Stream]:
        """The task's own steps; of the other splits whole episodes.

        Raises :class:`UserError` for a task that does not act.
        """
        task = placement.task
        if not isinstance(task, Acts):
            raise UserError(
                f"data: an environment is acted in, which {type(task).__name__} does not do: "
                "choose model=dqn, ppo or reinforce."
            )
        streams: dict[str, Stream] = {
            "train": ActingStream(
                task,
                self._seat,
                self.environments,
                placement.device,
                placement.seed,
                self._clip,
            )
        }
        for (split, count), origin in zip(self._counts.items(), (VALIDATION, TEST), strict=True):
            if count:
                seeds = [epoch_seed(origin, number) for number in range(count)]
                streams[split] = EpisodeStream(task, self._seat, seeds, count, placement.device)
        return streams

    def reader(self) -> Reader:
        """Of observations; and who plays for others to see."""
        return EnvironmentReader(self.environment, self.options, self._longest)

    def identity(self) -> Mapping[str, Any]:
        """Which environment, and how it is made."""
        return {
            "environment": self.environment,
            "options": self.options,
            "max_episode_steps": self._longest,
        }

    def _made(self) -> Any:
        return made(self.environment, self.options, self._longest)

    def _seat(self) -> Seat:
        return Seat(self.environment, self._made, self._spaces)

    def _tried(self, one: Seat, other: Seat, seed: int) -> tuple[int, bool]:
        """Steps of an episode by chance, and whether ``other`` repeats it."""
        asked, generator = self._spaces.asked, np.random.default_rng(seed)
        same = bool(np.array_equal(one.reset(seed), other.reset(seed)))
        for step in range(1, TRIED + 1):
            if asked.kind == "class":
                action: Any = int(generator.integers(asked.size or 1))
            else:
                action = generator.uniform(-1, 1, [side or 1 for side in asked.shape])
            answer, again = one.step(action), other.step(action)
            same &= bool(np.array_equal(answer.observation, again.observation))
            same &= answer.reward == again.reward
            if answer.terminated or answer.truncated:
                return step, same
        return TRIED, same
