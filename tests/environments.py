"""Small environments with whatever faults a stranger's may have."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete

NUMBERS = Box(-1, 1, (2,), np.float32)
SHOWN: dict[str, Any] = {"mapping": Dict({"near": NUMBERS, "far": NUMBERS})}
ASKED: dict[str, Any] = {
    "numbers": Box(-2, 2, (1,), np.float32),
    "several": MultiDiscrete([2, 2]),
}
NAME = "Faulty-v0"
SPELLED = f"tests.environments:{NAME}"
"""As it is typed, where DLTRAIN_PACKAGES allows it."""


class Faulty(gymnasium.Env[Any, Any]):
    """Chance decides what is seen; each step is worth 1, and the fifth is an episode's last."""

    def __init__(self, fault: str = "", render_mode: str | None = None) -> None:
        if fault == "constructor":
            raise RuntimeError("no license")
        self.fault, self.render_mode = fault, render_mode
        self.observation_space = SHOWN.get(fault, NUMBERS)
        self.action_space = ASKED.get(fault, Discrete(2))
        self.steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self.steps += 1
        if self.fault == "raises" and self.steps == 3:
            raise ValueError("the motor is broken")
        reward = float("inf") if self.fault == "reward" else 1.0
        over = self.steps == 5 or self.fault == "at once"
        return self._seen(), reward, over, False, {}

    def render(self) -> Any:
        return np.full((8, 8, 3), 40 * self.steps, np.uint8)

    def _seen(self) -> Any:
        if self.fault == "not a number" and self.steps == 2:
            return np.array([0, np.nan], np.float32)
        if self.fault == "shape":
            return np.zeros(3, np.float32)
        generator = np.random.default_rng() if self.fault == "no seed" else self.np_random
        return generator.random(2).astype(np.float32)


gymnasium.register(NAME, entry_point=Faulty)
