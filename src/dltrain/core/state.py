"""How far a run is: all that changes in the loop itself, and is in every checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from dltrain.engine.compile import Compile


@dataclass
class Place:
    """How far a stream was read: epochs completed, and batches of the current one."""

    epoch: int = 0
    position: int = 0


@dataclass
class State:
    """Counts and results. Tensors have their own places: task, optimizer, modifiers."""

    compile: Compile = "off"
    """``trainer.compile``, or what ``auto`` came to mean."""
    step: int = 0
    """Batches trained on so far."""
    samples: int = 0
    """Examples trained on so far."""
    places: dict[str, Place] = field(default_factory=dict)
    """By stream."""
    left: int = 0
    """Phases that are over."""
    evaluated_at: int = 0
    """The step of the last evaluation of a period of training."""
    best_value: float | None = None
    best_step: int | None = None
    """The step of the evaluation that was the best."""
    best_results: dict[str, float] = field(default_factory=dict)
    """What that evaluation said of the validation split."""
    uses_best: bool = False
    """Whether the task has the best weights, with nothing left to modify."""
    stop_reason: str = ""
    results: dict[str, dict[str, float]] = field(default_factory=dict)
    """The latest scalars of each split."""
    means: dict[str, list[str]] = field(default_factory=dict)
    """Which of them are means over something, by split: see ``Evaluation.weights``."""
    signatures: dict[str, str] = field(default_factory=dict)
    """How some of them were computed, by name: see ``Evaluation.signatures``."""
    seconds: dict[str, float] = field(
        default_factory=lambda: {"setup": 0.0, "train": 0.0, "evaluate": 0.0}
    )

    def place(self, stream: str) -> Place:
        """How far ``stream`` was read."""
        return self.places.setdefault(stream, Place())

    def state_dict(self) -> dict[str, Any]:
        """Primitives alone."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take ``state`` over, or leave all as it is: ValueError and the like for what is none."""
        places = {name: Place(**place) for name, place in state["places"].items()}
        found = State(**{**state, "places": places})
        if not (isinstance(found.step, int) and found.step >= 0):
            raise ValueError(f"{found.step!r} is no number of steps")
        vars(self).update(vars(found))
