"""The adding problem: a sum that must be remembered over a long time."""

from __future__ import annotations

from typing import Any

import torch

from dltrain.contracts.data import DataSpec, Field, Reader
from dltrain.data.streams.in_memory import InMemory, Prepare, Split
from dltrain.data.streams.reader import ArrayReader
from dltrain.data.streams.source import ArraySource


class Adding(ArraySource):
    """Sequences of ``length`` numbers, two of them marked, and the sum of these two.

    Each step has a number drawn evenly from 0 to 1 and a marker, 1 at one step of the first half
    and at one of the second, else 0 (Hochreiter and Schmidhuber 1997, section 5.4, as it is
    commonly given). To say 1 always has a mean squared error of 1/6.
    ``examples`` and ``test_examples`` are drawn by ``data_seed``, whatever the run's seed.
    """

    def __init__(
        self,
        length: int = 200,
        examples: int = 20_000,
        test_examples: int = 2000,
        data_seed: int = 0,
        **common: Any,
    ) -> None:
        super().__init__(**common)
        if length < 2:
            raise ValueError(f"length is at least 2, one step for each marker; got {length}")
        if min(examples, test_examples) < 1:
            raise ValueError("examples and test_examples are at least 1")
        if not 0 <= data_seed < 2**31:
            raise ValueError(f"data_seed must be from 0 to 2**31 - 1, got {data_seed}")
        self.length, self.data_seed = length, data_seed
        self.examples, self.test_examples = examples, test_examples

    def outline(self) -> DataSpec:
        """A number and a marker each step; one number to answer."""
        return DataSpec(
            {
                "input": Field((self.length, 2), "number", "input"),
                "target": Field((1,), "number", "target"),
            }
        )

    def splits(self) -> dict[str, Split]:
        return {
            "train": self._draw(self.examples, 2 * self.data_seed),
            "test": self._draw(self.test_examples, 2 * self.data_seed + 1),
        }

    def reader(self) -> Reader:
        return ArrayReader([self.length, 2])

    def prepare(self, device: torch.device) -> Prepare:
        return lambda batch, draw: batch

    def _draw(self, examples: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        numbers = torch.rand(examples, self.length, generator=generator)
        half = self.length // 2
        first = torch.randint(half, (examples,), generator=generator)
        second = torch.randint(half, self.length, (examples,), generator=generator)
        marked = torch.zeros_like(numbers)
        rows = torch.arange(examples)
        marked[rows, first] = marked[rows, second] = 1.0
        target = (numbers[rows, first] + numbers[rows, second])[:, None]
        return InMemory({"input": torch.stack([numbers, marked], -1), "target": target})
