"""What a network does that writes a sequence, token by token, about one that it has read."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

Rows = dict[str, Tensor]
"""Tensors by name, whose first dimension is the sequences: whoever searches repeats and orders
their rows, and knows nothing else of them."""


@runtime_checkable
class EncoderDecoder(Protocol):
    """A network of two halves. Ids are padded on the right.

    What it says of a row depends on that row alone. It may be called with ``(source, target)``,
    for logits as :meth:`decode` has them.
    """

    def encode(self, source: Tensor) -> Rows:
        """What was read of ``source`` (rows, time): it stays the same while one writes."""

    def decode(self, memory: Rows, target: Tensor) -> tuple[Tensor, Tensor]:
        """All steps at once, given the tokens ``target`` (rows, steps) that go before each.

        Logits (rows, steps, vocabulary), and how much each step attends to what was read
        (rows, steps, time), summing to 1 over time.
        """

    def begin(self, memory: Rows) -> Rows:
        """The state before the first step."""

    def step(self, memory: Rows, state: Rows, ids: Tensor) -> tuple[Tensor, Rows]:
        """One step after the tokens ``ids`` (rows,): logits (rows, vocabulary) and a new state."""
