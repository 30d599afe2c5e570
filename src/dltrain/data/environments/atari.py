"""Games of the Atari 2600, as Mnih et al. 2015 look at them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dltrain.data.environments.gym import Gym
from dltrain.data.environments.making import library, made
from dltrain.data.environments.reader import EnvironmentReader
from dltrain.errors import require_at_least, require_between

NAMESPACE = "ALE/"
SIDE = 84
"""Pixels of a side of what is seen."""


def preprocessed(game: Any, frame_skip: int, stack: int, noops: int) -> Any:
    """Grayscale images of 84x84 pixels, ``stack`` of them, each the brighter of two frames.

    An action is held for ``frame_skip`` frames; an episode begins with up to ``noops`` frames in
    which nothing is done. Raises ValueError where a wrapper needs what is not installed.
    """
    gym = library()
    try:
        one = gym.wrappers.AtariPreprocessing(
            game, noop_max=noops, frame_skip=frame_skip, screen_size=SIDE
        )
    except gym.error.DependencyNotInstalled as error:
        raise ValueError("environment needs opencv: pip install 'dltrain[atari]'") from error
    return gym.wrappers.FrameStackObservation(one, stack)


class Atari(Gym):
    """A game of the Atari 2600, as in Mnih et al. 2015; other arguments are :class:`Gym`'s.

    An action is held for ``frame_skip`` frames, and repeated instead of the next one with the
    probability ``sticky`` (0 in the paper; Machado et al. 2018 take 0.25). ``stack`` images are
    seen at once; up to ``noops`` frames are waited at the beginning.
    """

    def __init__(
        self,
        environment: str,
        environments: int = 1,
        validation: int = 5,
        test: int = 30,
        max_episode_steps: int | None = 4500,
        clip_reward: float | None = 1.0,
        frame_skip: int = 4,
        stack: int = 4,
        noops: int = 30,
        sticky: float = 0.0,
    ) -> None:
        if not environment.startswith(NAMESPACE):
            raise ValueError(
                f"environment must be a game of the Atari 2600, such as {NAMESPACE}Pong-v5, got "
                f"{environment}: others are data=gym"
            )
        require_at_least(1, frame_skip=frame_skip, stack=stack)
        require_at_least(0, noops=noops)
        require_between(0, 1, sticky=sticky)
        self._looked = {"frame_skip": frame_skip, "stack": stack, "noops": noops}
        options = {"frameskip": 1, "repeat_action_probability": sticky}
        limit = None if max_episode_steps is None else max_episode_steps * frame_skip
        super().__init__(environment, options, environments, validation, test, limit, clip_reward)

    def reader(self) -> AtariReader:
        """Of what is seen of the game, and who plays it."""
        return AtariReader(self.environment, self.options, self._longest, **self._looked)

    def identity(self) -> Mapping[str, Any]:
        """Which game, and how it is looked at."""
        return {**super().identity(), **self._looked}

    def _made(self) -> Any:
        game = made(self.environment, self.options, self._longest)
        return preprocessed(game, **self._looked)


class AtariReader(EnvironmentReader):
    """What :class:`Atari` shows, and its episodes, watched."""

    def __init__(
        self,
        environment: str,
        options: Mapping[str, Any] | None = None,
        max_episode_steps: int | None = None,
        frame_skip: int = 4,
        stack: int = 4,
        noops: int = 30,
    ) -> None:
        super().__init__(environment, options, max_episode_steps)
        self._looked = {"frame_skip": frame_skip, "stack": stack, "noops": noops}

    def node(self, folder: Path) -> dict[str, Any]:
        return {**super().node(folder), **self._looked}

    def _made(self, seen: bool = False) -> Any:
        game = made(self.environment, self.options, self.max_episode_steps, seen)
        return preprocessed(game, **self._looked)
