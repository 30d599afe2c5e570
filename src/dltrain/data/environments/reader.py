"""What a run keeps of its environment: how to read an observation, and to play for others to see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.data import Batch, Reader
from dltrain.data.environments.making import made
from dltrain.data.environments.seat import Seat
from dltrain.data.environments.spaces import Spaces


class Played(NamedTuple):
    """An episode: its ``frames`` (height, width, 3) uint8, the sum of its rewards, its steps."""

    frames: Sequence[NDArray[np.uint8]]
    total: float
    length: int


class EnvironmentReader(Reader):
    """Observations of ``environment``, as lists of numbers; and its episodes, seen."""

    example = "observation"

    def __init__(
        self,
        environment: str,
        options: Mapping[str, Any] | None = None,
        max_episode_steps: int | None = None,
    ) -> None:
        self.environment, self.options = environment, dict(options or {})
        self.max_episode_steps = max_episode_steps
        self._spaces: Spaces | None = None

    def read(self, examples: Sequence[Any]) -> Batch:
        """Observations as the environment shows them: numbers, or what numpy makes an array of."""
        spaces = self._known()
        rows = []
        for number, example in enumerate(examples):
            try:
                row = spaces.observation(example)
            except (TypeError, ValueError, IndexError) as error:
                raise ValueError(f"observation {number}: {error}") from error
            if row.shape != spaces.shape:
                raise ValueError(
                    f"observation {number} has shape {row.shape}, and {self.environment} shows "
                    f"{spaces.shape}"
                )
            rows.append(row)
        return {"observation": torch.from_numpy(np.stack(rows))}

    def play(
        self, best_action: Callable[[Tensor], Tensor], seeds: Sequence[int], seen: bool
    ) -> Iterator[Played]:
        """An episode for each seed; with what it looks like where it is to be ``seen``.

        Raises ValueError for an environment that cannot be made or shows nothing.
        """
        seat = Seat(self.environment, lambda: self._made(seen), self._known())
        for seed in seeds:
            observation, total, over = seat.reset(seed), 0.0, False
            frames = [self._frame(seat)] if seen else []
            while not over:
                action = best_action(torch.from_numpy(observation[None].copy()))[0]
                answer = seat.step(action.item() if action.dim() == 0 else action.numpy())
                observation, total = answer.observation, total + answer.reward
                over = answer.terminated or answer.truncated
                if seen:
                    frames.append(self._frame(seat))
            yield Played(frames, total, len(seat.actions))

    def node(self, folder: Path) -> dict[str, Any]:
        return {
            "_target_": f"{type(self).__module__}.{type(self).__qualname__}",
            "environment": self.environment,
            "options": self.options,
            "max_episode_steps": self.max_episode_steps,
        }

    def _made(self, seen: bool = False) -> Any:
        return made(self.environment, self.options, self.max_episode_steps, seen)

    def _known(self) -> Spaces:
        if self._spaces is None:
            environment = self._made()
            self._spaces = Spaces(self.environment, environment)
            environment.close()
        return self._spaces

    def _frame(self, seat: Seat) -> NDArray[np.uint8]:
        try:
            frame = np.asarray(seat.environment.render())
        except Exception as error:  # whatever a stranger's environment raises
            told = " ".join(str(error).split())
            raise ValueError(
                f"environment {self.environment} shows no image: {type(error).__name__}: {told}"
            ) from error
        if frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"environment {self.environment} shows no image of red, green, blue")
        return frame.astype(np.uint8)
