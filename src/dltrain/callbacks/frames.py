"""What the animation of a whole run is made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class Frames:
    """At most ``most`` tensors of one shape, evenly spaced over all that came, and the newest.

    Where there would be more, every other one is dropped, and from then on every other one taken.
    """

    def __init__(self, most: int) -> None:
        if most < 2:
            raise ValueError(f"most_frames is at least 2, got {most}")
        self.most = most
        self.kept: list[Tensor] = []
        self.steps: list[int] = []
        """The training step of each."""
        self._numbers: list[int] = []
        self._stride = 1

    def add(self, frame: Tensor, step: int) -> None:
        """Take the newest; the one before it may have been kept for being the newest alone."""
        number = self._numbers[-1] + 1 if self._numbers else 0
        if self._numbers and self._numbers[-1] % self._stride:
            self._keep([*range(len(self.kept) - 1)])
        self.kept.append(frame)
        self.steps.append(step)
        self._numbers.append(number)
        if len(self.kept) > self.most:
            self._stride *= 2
            self._keep(
                [i for i, n in enumerate(self._numbers) if n % self._stride == 0 or n == number]
            )

    def state_dict(self) -> dict[str, Any]:
        """The frames so far (frames, …), and which they are."""
        return {
            "frames": torch.stack(self.kept) if self.kept else torch.empty(0),
            "steps": list(self.steps),
            "numbers": list(self._numbers),
            "stride": self._stride,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the frames that were."""
        self.kept = list(state["frames"].cpu())
        self.steps, self._numbers = list(state["steps"]), list(state["numbers"])
        self._stride = state["stride"]

    def _keep(self, places: list[int]) -> None:
        self.kept = [self.kept[place] for place in places]
        self.steps = [self.steps[place] for place in places]
        self._numbers = [self._numbers[place] for place in places]
