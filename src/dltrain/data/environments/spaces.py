"""What an environment shows and asks for, as tensors know it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dltrain.contracts.data import DataSpec, Field
from dltrain.data.environments.making import library

CHANNELS = (1, 3, 4)
"""How many a screen may have, where they stand last."""


class Spaces:
    """A field ``observation`` and a field ``action``, of what an environment shows and asks for.

    Numbers are shown as they are, in float32; one of some states as a vector of a single 1; a
    screen as an image with its channels first, kept as bytes.

    Raises ValueError for spaces of other kinds.
    """

    def __init__(self, name: str, environment: Any) -> None:
        gym = library()
        shown, asked = environment.observation_space, environment.action_space
        self._states: int | None = None
        self._last = False
        self._first = 0
        if isinstance(shown, gym.spaces.Discrete):
            self._states, self._first_state = int(shown.n), int(shown.start)
            field = Field((self._states,), "number", "input")
        elif not isinstance(shown, gym.spaces.Box):
            raise ValueError(
                f"environment {name} shows {_told(shown)}: a network reads numbers, a screen or "
                "one of some states. Wrap it so that it shows those, as "
                "gymnasium.wrappers.FlattenObservation does"
            )
        elif shown.dtype == np.uint8 and len(shown.shape) == 3:
            height, width, channels = shown.shape
            self._last = channels in CHANNELS
            shape = (channels, height, width) if self._last else shown.shape
            field = Field(tuple(shape), "image", "input")
        else:
            field = Field(tuple(shown.shape), "number", "input")
        self.bytes = field.kind == "image"
        self.shape = tuple(int(side or 0) for side in field.shape)
        self.asked = self._asked(gym, name, asked, environment)
        self.spec = DataSpec({"observation": field, "action": self.asked})

    def observation(self, raw: Any) -> NDArray[Any]:
        """One observation of the field's shape."""
        if self._states is not None:
            state = int(np.asarray(raw).item()) - self._first_state
            if not 0 <= state < self._states:
                raise ValueError(f"{raw} is none of {self._states} states")
            found = np.zeros(self._states, np.float32)
            found[state] = 1
            return found
        if self.bytes:
            pixels = np.asarray(raw, np.uint8)
            return pixels.transpose(2, 0, 1) if self._last else pixels
        return np.asarray(raw, np.float32)

    def action(self, chosen: Any) -> Any:
        """What the environment takes, of an action (…) as tasks have it."""
        if self.asked.kind == "class":
            return int(chosen) + self._first
        return np.clip(np.asarray(chosen, self._dtype), *self._bounds).reshape(self.asked.shape)

    def empty(self, count: int) -> NDArray[Any]:
        """Room for so many observations."""
        return np.zeros((count, *self.shape), np.uint8 if self.bytes else np.float32)

    def _asked(self, gym: Any, name: str, asked: Any, environment: Any) -> Field:
        if isinstance(asked, gym.spaces.Discrete):
            self._first = int(asked.start)
            size = int(asked.n)
            return Field((), "class", "action", size=size, names=_names(environment, size))
        if isinstance(asked, gym.spaces.Box) and np.issubdtype(asked.dtype, np.floating):
            self._bounds = (asked.low, asked.high)
            self._dtype = asked.dtype
            bounded = bool(np.isfinite(asked.low).all() and np.isfinite(asked.high).all())
            low = asked.low.reshape(-1).tolist() if bounded else ()
            high = asked.high.reshape(-1).tolist() if bounded else ()
            return Field(tuple(asked.shape), "number", "action", low=tuple(low), high=tuple(high))
        raise ValueError(
            f"environment {name} asks for {_told(asked)}: a policy gives one of some actions, or "
            "numbers"
        )


def _names(environment: Any, size: int) -> tuple[str, ...]:
    """What actions are called: Atari's games tell, others have numbers."""
    meanings = getattr(environment.unwrapped, "get_action_meanings", None)
    names = tuple(map(str, meanings())) if meanings is not None else ()
    return names if len(names) == size else tuple(map(str, range(size)))


def _told(space: Any) -> str:
    """A space in a few words."""
    kinds = {
        "Dict": "a mapping",
        "Tuple": "several things at once",
        "Text": "text",
        "Graph": "a graph",
        "Sequence": "a sequence",
        "MultiDiscrete": "several choices at once",
        "MultiBinary": "several switches at once",
    }
    name = type(space).__name__
    keys = f" ({', '.join(map(str, space.spaces))})" if name == "Dict" else ""
    return f"{kinds.get(name, 'something else')}{keys} ({name})"
