"""Learning-rate schedules: each a shape over progress in [0, 1)."""

from __future__ import annotations

import math
from typing import Any

from dltrain.contracts.run import Schedule
from dltrain.errors import require_at_least


class Constant(Schedule):
    """The base learning rate throughout."""

    def shape(self, progress: float) -> float:
        """Return 1."""
        return 1.0


class Linear(Schedule):
    """A straight line from 1 to ``end``."""

    def __init__(self, end: float = 0.0, **run: Any) -> None:
        super().__init__(**run)
        require_at_least(0, end=end)
        self.end = end

    def shape(self, progress: float) -> float:
        """Interpolate linearly."""
        return 1 + (self.end - 1) * progress


class Cosine(Schedule):
    """Half a cosine from 1 to ``end`` (Loshchilov and Hutter 2017, without restarts)."""

    def __init__(self, end: float = 0.0, **run: Any) -> None:
        super().__init__(**run)
        require_at_least(0, end=end)
        self.end = end

    def shape(self, progress: float) -> float:
        """Interpolate along half a cosine."""
        return self.end + (1 - self.end) * (1 + math.cos(math.pi * progress)) / 2


class Exponential(Schedule):
    """Multiply by ``gamma`` every epoch, smoothly within it."""

    def __init__(self, gamma: float = 0.95, **run: Any) -> None:
        super().__init__(**run)
        if gamma <= 0:
            raise ValueError(f"gamma must be above 0, got {gamma}")
        self.gamma = gamma

    def shape(self, progress: float) -> float:
        """Decay by the epochs that have passed since the warm-up."""
        steps = progress * max(1, self.total_steps - self.warmup)
        return self.gamma ** (steps / self.steps_per_epoch)


class Step(Schedule):
    """Multiply by ``gamma`` every ``every_epochs`` epochs, all at once."""

    def __init__(self, every_epochs: float = 30, gamma: float = 0.1, **run: Any) -> None:
        super().__init__(**run)
        if every_epochs <= 0:
            raise ValueError(f"every_epochs must be above 0, got {every_epochs}")
        require_at_least(0, gamma=gamma)
        self.every = every_epochs
        self.gamma = gamma

    def shape(self, progress: float) -> float:
        """Count the whole periods that have passed since the warm-up."""
        steps = progress * max(1, self.total_steps - self.warmup)
        # Rounded, lest 0.1 * 30 epochs of float steps fall one step short of a whole period.
        return self.gamma ** math.floor(round(steps / self.steps_per_epoch / self.every, 9))


class InverseSqrt(Schedule):
    """Fall with the inverse square root of the step, from the end of the warm-up on.

    As Vaswani et al. 2017, equation 3, but the highest rate is the base learning rate. Without a
    warm-up the fall is that from the first step on.
    """

    def __init__(self, warmup_steps: int = 1000, **run: Any) -> None:
        super().__init__(warmup_steps=warmup_steps, **run)

    def shape(self, progress: float) -> float:
        """The root of the warm-up's part of all steps so far."""
        first = max(1, self.warmup)
        return math.sqrt(first / (first + progress * max(1, self.total_steps - self.warmup)))


class OneCycle(Schedule):
    """Up from ``start`` to 1 over the first ``peak`` of the run, down to ``end`` (Smith 2018).

    Both flanks are half cosines; the base learning rate is the highest. It is its own warm-up.
    """

    def __init__(
        self, start: float = 0.04, peak: float = 0.3, end: float = 1e-4, **run: Any
    ) -> None:
        super().__init__(**run)
        if not 0 < peak < 1:
            raise ValueError(f"peak is a fraction of the run, between 0 and 1; got {peak}")
        require_at_least(0, start=start, end=end)
        self.start, self.peak, self.end = start, peak, end

    def shape(self, progress: float) -> float:
        """Interpolate along the flank that ``progress`` lies on."""
        if progress < self.peak:
            low, along = self.start, 1 - progress / self.peak
        else:
            low, along = self.end, (progress - self.peak) / (1 - self.peak)
        return low + (1 - low) * (1 + math.cos(math.pi * along)) / 2
