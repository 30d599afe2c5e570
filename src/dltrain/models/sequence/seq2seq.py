"""A recurrent network that reads a sequence, and one that writes another with attention to it."""

from __future__ import annotations

from functools import partial
from typing import Literal, cast

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.contracts.translation import Rows
from dltrain.models.layers.attention import Additive, Attend, Attention, Multiplicative
from dltrain.models.sequence.recurrent import mirror, reorder
from dltrain.models.sequence.translating import Vectors, require_sizes

Cell = Literal["gru", "lstm"]
LAYERS: dict[str, type[nn.GRU] | type[nn.LSTM]] = {"gru": nn.GRU, "lstm": nn.LSTM}
STD = 0.1
"""Of the vectors of tokens as they begin."""


class Seq2Seq(nn.Module):
    """Tokens (rows, time) and those written before each step (rows, steps) to logits.

    ``layers`` of ``cell`` with ``hidden_size`` units read both ways; others write. ``attention``:

    - ``bahdanau`` (Bahdanau, Cho and Bengio 2015): the state before a step attends, and what it
      sees is an input of that step. Steps wait for each other.
    - ``luong`` (Luong, Pham and Manning 2015, without input feeding): the state after a step
      attends. All steps are one call of a fused kernel in training.

    A dense layer makes of state and context ``embedding_size`` features, of which the logits are
    made; ``tied`` shares the vectors of tokens with it. ``dropout`` acts on the vectors of tokens,
    between layers and on those features.

    Raises ValueError for sizes that are none, and for data without two sequences of tokens.
    """

    def __init__(
        self,
        spec: DataSpec,
        cell: Cell = "gru",
        attention: Attention = "luong",
        embedding_size: int = 256,
        hidden_size: int = 512,
        layers: int = 1,
        dropout: float = 0.3,
        tied: bool = True,
    ) -> None:
        super().__init__()
        require_sizes(
            dropout, embedding_size=embedding_size, hidden_size=hidden_size, layers=layers
        )
        self.depth, self.hidden_size = layers, hidden_size
        self.vectors = Vectors(spec, embedding_size, tied, STD)
        self.dropout = nn.Dropout(dropout)
        layer = partial(LAYERS[cell], batch_first=True)
        width = 2 * hidden_size
        self.readers = nn.ModuleList(
            nn.ModuleList(layer(width if depth else embedding_size, hidden_size) for _ in range(2))
            for depth in range(layers)
        )
        self.bridge = nn.Linear(width, layers * hidden_size)
        self.feeds = attention == "bahdanau"
        self.attend: Attend = (
            Additive(hidden_size, width, hidden_size)
            if self.feeds
            else Multiplicative(hidden_size, width)
        )
        self.writer = layer(
            embedding_size + (width if self.feeds else 0),
            hidden_size,
            num_layers=layers,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.states = 2 if cell == "lstm" else 1
        self.merge = nn.Linear(hidden_size + width, embedding_size)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (rows, steps, vocabulary)."""
        return self.decode(self.encode(source), target)[0]

    def encode(self, source: Tensor) -> Rows:
        """States of all steps, both ways, and what they come to."""
        real = self.vectors.real(source)
        mirrored = mirror(real)
        states = self.dropout(self.vectors.source(source))
        for depth, both in enumerate(self.readers):
            forwards, backwards = cast(nn.ModuleList, both)
            inputs = self.dropout(states) if depth else states
            read = forwards(inputs)[0]
            mirror_read = reorder(backwards(reorder(inputs, mirrored))[0], mirrored)
            states = torch.cat([read, mirror_read], 2)
        last = (real.sum(1) - 1).clamp_min(0).view(-1, 1, 1).expand(-1, 1, self.hidden_size)
        ends = states[..., : self.hidden_size].gather(1, last).squeeze(1)
        whole = torch.cat([ends, states[:, 0, self.hidden_size :]], 1)
        start = self.bridge(whole).tanh().unflatten(1, (self.depth, self.hidden_size))
        return {"states": states, "keys": self.attend.keys(states), "real": real, "start": start}

    def begin(self, memory: Rows) -> Rows:
        """The first hidden state; an LSTM's cells begin empty."""
        hidden = {"hidden": memory["start"]}
        return hidden | ({"cells": torch.zeros_like(memory["start"])} if self.states == 2 else {})

    def decode(self, memory: Rows, target: Tensor) -> tuple[Tensor, Tensor]:
        """All steps, given the tokens before each; see :class:`EncoderDecoder`."""
        vectors = self.dropout(self.vectors.target(target))
        state = self.begin(memory)
        if not self.feeds:
            written, _ = self._write(vectors, state)
            return self._answer(memory, written)
        outputs, weights = [], []
        for vector in vectors.unbind(1):
            written, context, weight, state = self._fed(memory, state, vector)
            outputs.append(torch.cat([written, context], 2))
            weights.append(weight)
        return self._logits(torch.cat(outputs, 1)), torch.cat(weights, 1)

    def step(self, memory: Rows, state: Rows, ids: Tensor) -> tuple[Tensor, Rows]:
        """One step after ``ids`` (rows,)."""
        vector = self.dropout(self.vectors.target(ids))
        if self.feeds:
            written, context, _, state = self._fed(memory, state, vector)
            return self._logits(torch.cat([written, context], 2))[:, 0], state
        written, state = self._write(vector.unsqueeze(1), state)
        return self._answer(memory, written)[0][:, 0], state

    def _fed(
        self, memory: Rows, state: Rows, vector: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Rows]:
        """A step that sees what the state before it attends to."""
        query = state["hidden"][:, -1:]
        context, weights = self.attend(query, memory["keys"], memory["states"], memory["real"])
        written, state = self._write(torch.cat([vector.unsqueeze(1), context], 2), state)
        return written, context, weights, state

    def _answer(self, memory: Rows, written: Tensor) -> tuple[Tensor, Tensor]:
        context, weights = self.attend(written, memory["keys"], memory["states"], memory["real"])
        return self._logits(torch.cat([written, context], 2)), weights

    def _logits(self, features: Tensor) -> Tensor:
        return self.vectors.output(self.dropout(self.merge(features).tanh()))

    def _write(self, inputs: Tensor, state: Rows) -> tuple[Tensor, Rows]:
        """States (rows, steps, hidden_size) of the last layer, and the state after them."""
        # Mixed precision leaves the vectors of tokens in float32, but not what dense layers made.
        first = [c.transpose(0, 1).to(inputs.dtype).contiguous() for c in state.values()]
        written, last = self.writer(inputs, tuple(first) if self.states == 2 else first[0])
        found = last if self.states == 2 else (last,)
        return written, {
            name: column.transpose(0, 1) for name, column in zip(state, found, strict=True)
        }
