"""What a run keeps of its environment: how to read an observation, and to be watched in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dltrain.contracts.acting import Played
from dltrain.contracts.data import Batch, Reader
from dltrain.data.environments.making import made
from dltrain.data.environments.seat import Seat
from dltrain.data.environments.spaces import Spaces
from dltrain.files import lines_of

WIDEST = 400
"""Pixels of a frame's longer side."""


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

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """Numbers, typed as 0.1,-0.2 or a line each of a file; anything else is an observation."""
        for one in inputs:
            if isinstance(one, Path):
                yield from (_numbers(line, f"{one}: ") for line in lines_of(one) if line.strip())
            else:
                yield _numbers(one) if isinstance(one, str) else one

    def read(self, examples: Sequence[Any]) -> Batch:
        """Observations as the environment shows them: numbers, or what numpy makes an array of."""
        spaces = self._known()
        rows = []
        for number, example in enumerate(examples):
            try:
                row = spaces.observation(example)
            except (TypeError, ValueError, IndexError) as error:
                raise ValueError(f"example {number}: {error}") from error
            if row.shape != spaces.shape:
                raise ValueError(
                    f"example {number} has shape {row.shape}, and {self.environment} shows "
                    f"{spaces.shape}"
                )
            rows.append(row)
        return {"observation": torch.from_numpy(np.stack(rows))}

    def play(
        self, best_action: Callable[[Tensor], Tensor], seeds: Sequence[int], every: int, most: int
    ) -> Iterator[Played]:
        """See :class:`~dltrain.contracts.acting.Plays`; frames are made smaller than ``WIDEST``."""
        seat = Seat(self.environment, partial(self._made, seen=True), self._known())
        for seed in seeds:
            observation, total, over = seat.reset(seed), 0.0, False
            frames = [self._frame(seat)]
            while not over:
                action = best_action(torch.from_numpy(observation[None].copy()))[0]
                answer = seat.step(action.item() if action.dim() == 0 else action.numpy())
                observation, total = answer.observation, total + answer.reward
                over = answer.terminated or answer.truncated
                if len(frames) < most and (over or len(seat.actions) % every == 0):
                    frames.append(self._frame(seat))
            yield Played(total, len(seat.actions), frames)

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
        image = Image.fromarray(frame.astype(np.uint8))
        return np.asarray(image.reduce(-(-max(image.size) // WIDEST)))


def _numbers(line: str, place: str = "") -> list[float]:
    """What stands between commas or blanks."""
    try:
        return [float(word) for word in line.replace(",", " ").split()]
    except ValueError as error:
        raise ValueError(f"{place}{line.strip()!r} are no numbers, as 0.1,-0.2 are") from error
