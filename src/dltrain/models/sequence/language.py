"""What networks for language have in common: tokens in, the next token's logits out, at every step.

They read on from a state, so that a text may be read in parts, or one token at a time.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec

State = tuple[Tensor, ...]
"""What a network knows of the tokens that it has read."""


@runtime_checkable
class ReadsOn(Protocol):
    """A network that predicts the next token, and reads on from where it was."""

    carries: bool
    """Whether training carries the state from one window of a text to the next."""
    context: int | None
    """How many tokens it is trained to read at most, one state after the other; None: any."""

    def initial_state(self, rows: int) -> State:
        """That of ``rows`` texts of which nothing is read."""

    def read_on(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits (rows, time, vocabulary) of the token after each of ``ids`` (rows, time).

        And the state after them.
        """


def predicts_next_token(spec: DataSpec) -> bool:
    """Whether the data's target is its input, one token on."""
    inputs, targets = spec.of("input"), spec.of("target")
    kinds = [field.kind for field in (*inputs, *targets)]
    return kinds == ["tokens", "tokens"] and None not in inputs[0].shape == targets[0].shape


class LockedDropout(nn.Dropout):
    """Dropout of whole columns: what is dropped at one step is dropped at all (Gal 2016).

    States (rows, time, width).
    """

    def forward(self, states: Tensor) -> Tensor:
        """Drop columns in training."""
        if not self.training or not self.p:
            return states
        kept = torch.ones_like(states[:, :1])
        return states * functional.dropout(kept, self.p)


class NextToken(nn.Module):
    """States (rows, time, width) to logits (rows, time, outputs).

    With an ``embedding`` its vectors are the weights of the output too (Press and Wolf 2017; Inan,
    Khosravi and Socher 2017); states of another width are brought to that of the vectors.
    """

    def __init__(self, width: int, outputs: int, embedding: nn.Embedding | None = None) -> None:
        super().__init__()
        self.narrow: nn.Linear | None = None
        if embedding is None:
            self.output = nn.Linear(width, outputs)
            return
        if width != embedding.embedding_dim:
            self.narrow = nn.Linear(width, embedding.embedding_dim, bias=False)
        self.output = nn.Linear(embedding.embedding_dim, outputs)
        self.output.weight = embedding.weight
        nn.init.zeros_(self.output.bias)

    def forward(self, states: Tensor) -> Tensor:
        logits: Tensor = self.output(states if self.narrow is None else self.narrow(states))
        return logits
