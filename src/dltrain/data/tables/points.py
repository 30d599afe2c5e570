"""Two classes of points in the plane, made here: logic gates, moons, circles."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch

from dltrain.config.suggest import did_you_mean
from dltrain.data.streams.in_memory import InMemory, Split
from dltrain.data.tables.source import VectorSource

GATES: dict[str, Callable[[bool, bool], bool]] = {
    "AND": lambda a, b: a and b,
    "OR": lambda a, b: a or b,
    "NAND": lambda a, b: not (a and b),
    "XOR": lambda a, b: a != b,
}


class Gates(VectorSource):
    """A truth table: the four points of 0 and 1, and what ``gate`` (AND, OR, NAND, XOR) says.

    It is tested on the points it learns from. XOR cannot be told by one line through the plane
    (Minsky and Papert 1969).
    """

    feature_names = ("a", "b")
    class_names = ("0", "1")

    def __init__(self, gate: str = "XOR", **common: Any) -> None:
        super().__init__(**common)
        if gate.upper() not in GATES:
            raise ValueError(
                f"gate is one of {', '.join(GATES)}; got {gate!r}. "
                f"{did_you_mean(gate.upper(), GATES)}".rstrip()
            )
        self.gate = GATES[gate.upper()]

    def splits(self) -> dict[str, Split]:
        corners = [(a, b) for a in (False, True) for b in (False, True)]
        columns = {
            "input": torch.tensor(corners, dtype=torch.float32),
            "target": torch.tensor([int(self.gate(a, b)) for a, b in corners]),
        }
        return {"train": InMemory(columns), "test": InMemory(columns)}


class GeneratedPoints(VectorSource):
    """Noisy points around two curves, drawn by ``data_seed``, whatever the run's seed.

    ``noise`` is the std of each coordinate; ``examples`` and ``test_examples`` count the
    points, half of them of each class. The test split is drawn by itself.
    """

    feature_names = ("x", "y")

    def __init__(
        self,
        noise: float = 0.1,
        examples: int = 1000,
        test_examples: int = 1000,
        data_seed: int = 0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if noise < 0:
            raise ValueError(f"noise is a standard deviation, not negative; got {noise}")
        if min(examples, test_examples) < 2:
            raise ValueError("examples and test_examples are at least 2: one of each class")
        if not 0 <= data_seed < 2**31:
            raise ValueError(f"data_seed must be from 0 to 2**31 - 1, got {data_seed}")
        self.noise, self.data_seed = noise, data_seed
        self.examples, self.test_examples = examples, test_examples

    @abstractmethod
    def draw(self, examples: int, seed: int) -> tuple[Any, Any]:
        """Points (examples, 2) and their classes (examples,), as arrays."""

    def splits(self) -> dict[str, Split]:
        return {
            "train": self._points(self.examples, 2 * self.data_seed),
            "test": self._points(self.test_examples, 2 * self.data_seed + 1),
        }

    def _points(self, examples: int, seed: int) -> Split:
        points, classes = self.draw(examples, seed)
        return InMemory(
            {"input": torch.from_numpy(points).float(), "target": torch.from_numpy(classes).long()}
        )


class Moons(GeneratedPoints):
    """Two half circles that reach into each other."""

    class_names = ("upper", "lower")

    def draw(self, examples: int, seed: int) -> tuple[Any, Any]:
        from sklearn.datasets import make_moons

        return make_moons(examples, noise=self.noise, random_state=seed)


class Circles(GeneratedPoints):
    """A circle within another, ``factor`` times as wide."""

    class_names = ("outer", "inner")

    def __init__(self, factor: float = 0.5, **common: Any) -> None:
        super().__init__(**common)
        if not 0 <= factor < 1:
            raise ValueError(f"factor is the inner radius over the outer, below 1; got {factor}")
        self.factor = factor

    def draw(self, examples: int, seed: int) -> tuple[Any, Any]:
        from sklearn.datasets import make_circles

        return make_circles(examples, noise=self.noise, factor=self.factor, random_state=seed)
