"""The transformer that reads one sequence and writes another (Vaswani et al. 2017), pre-norm."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec
from dltrain.contracts.translation import Rows
from dltrain.models.sequence.transformer import Layer, sinusoids
from dltrain.models.sequence.translating import Vectors, require_sizes


class TransformerSeq2Seq(nn.Module):
    """Tokens (rows, time) and those written before each step (rows, steps) to logits.

    ``layers`` of each half, of ``width`` divided among ``heads``, each with a dense layer of
    ``feedforward`` units; normalized before each part (Xiong et al. 2020). Sinusoids say where a
    token stands. ``tied`` logits are products with the vectors of the tokens; ``dropout`` acts on
    the vectors and on what each part adds.

    Writing keeps keys and values of the steps before, so that a step costs one token's work.
    Raises ValueError for sizes that do not fit each other, and for data without two sequences of
    tokens.
    """

    def __init__(
        self,
        spec: DataSpec,
        layers: int = 3,
        width: int = 256,
        heads: int = 4,
        feedforward: int = 512,
        dropout: float = 0.1,
        tied: bool = True,
    ) -> None:
        super().__init__()
        require_sizes(dropout, layers=layers, width=width, heads=heads, feedforward=feedforward)
        if width % (2 * heads):
            raise ValueError(f"width {width} is no multiple of twice the heads, {heads}")
        self.width = width
        self.vectors = Vectors(spec, width, tied, width**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.readers = nn.ModuleList(
            Layer(width, heads, feedforward, dropout) for _ in range(layers)
        )
        self.read_norm = nn.LayerNorm(width)
        self.writers = nn.ModuleList(
            WritingLayer(width, heads, feedforward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (rows, steps, vocabulary)."""
        return self._decode(self.encode(source), target)

    def encode(self, source: Tensor) -> Rows:
        """Keys and values of each writing layer (rows, heads, time, width / heads)."""
        real = self.vectors.real(source)
        states = self._placed(self.vectors.source(source), 0)
        for layer in self.readers:
            states = layer(states, real[:, None, None], None)
        states = self.read_norm(states)
        memory = {"real": real}
        for number, layer in enumerate(self._writing):
            memory[f"keys{number}"], memory[f"values{number}"] = layer.remember(states)
        return memory

    def begin(self, memory: Rows) -> Rows:
        """No step yet."""
        empty = memory["keys0"][:, :, :0]
        numbers = range(len(self.writers))
        return {f"{name}{number}": empty for number in numbers for name in ("keys", "values")}

    def decode(self, memory: Rows, target: Tensor) -> tuple[Tensor, Tensor]:
        """All steps; the weights are those of the last layer, over its heads on average."""
        last = self._writing[-1]
        with torch.no_grad():
            states = self._states(memory, target, len(self.writers) - 1)
            weights = last.weights(states, memory[f"keys{len(self.writers) - 1}"], memory["real"])
        return self._decode(memory, target), weights

    def step(self, memory: Rows, state: Rows, ids: Tensor) -> tuple[Tensor, Rows]:
        """One step after ``ids`` (rows,)."""
        before = state["keys0"].shape[2]
        states = self._placed(self.vectors.target(ids[:, None]), before)
        after: Rows = {}
        for number, layer in enumerate(self._writing):
            names = (f"keys{number}", f"values{number}")
            past = state[names[0]], state[names[1]]
            keys, values = (memory[name] for name in names)
            states, now = layer.advance(states, past, keys, values, memory["real"])
            after |= dict(zip(names, now, strict=True))
        return self.vectors.output(self.norm(states))[:, 0], after

    @property
    def _writing(self) -> list[WritingLayer]:
        return [cast(WritingLayer, layer) for layer in self.writers]

    def _decode(self, memory: Rows, target: Tensor) -> Tensor:
        states = self._states(memory, target, len(self.writers))
        return self.vectors.output(self.norm(states))

    def _states(self, memory: Rows, target: Tensor, layers: int) -> Tensor:
        """After so many layers (rows, steps, width)."""
        states = self._placed(self.vectors.target(target), 0)
        for number, layer in enumerate(self._writing[:layers]):
            keys, values = memory[f"keys{number}"], memory[f"values{number}"]
            states = layer(states, keys, values, memory["real"])
        return states

    def _placed(self, vectors: Tensor, before: int) -> Tensor:
        """Vectors (rows, steps, width) with the sinusoids of their places."""
        steps = before + vectors.shape[1]
        places = sinusoids(steps, self.width, vectors.device).flatten(1)[before:]
        return self.dropout(vectors * self.width**0.5 + places.to(vectors.dtype))


class WritingLayer(nn.Module):
    """Attention to the steps before, to what was read, and a feed-forward layer."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.own_norm, self.read_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ask, self.look_up = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.merge_read = nn.Linear(width, width)
        for weight in (*self.project.weight.split(width), *self.look_up.weight.split(width)):
            nn.init.xavier_uniform_(weight)
        nn.init.xavier_uniform_(self.ask.weight)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, feedforward),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, keys: Tensor, values: Tensor, real: Tensor) -> Tensor:
        """States (rows, steps, width) to new ones; each step sees itself and those before."""
        queries, own_keys, own_values = self._parts(states)
        mixed = functional.scaled_dot_product_attention(
            queries, own_keys, own_values, is_causal=True
        )
        return self._rest(states, mixed, keys, values, real)

    def advance(
        self,
        states: Tensor,
        past: tuple[Tensor, Tensor],
        keys: Tensor,
        values: Tensor,
        real: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One step (rows, 1, width) after the keys and values of those before, and all of these."""
        queries, key, value = self._parts(states)
        own = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        mixed = functional.scaled_dot_product_attention(queries, *own)
        return self._rest(states, mixed, keys, values, real), own

    def remember(self, read: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of what was read (rows, heads, time, width / heads)."""
        keys, values = self.look_up(read).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return keys, values

    def weights(self, states: Tensor, keys: Tensor, real: Tensor) -> Tensor:
        """How much each step attends to what was read (rows, steps, time), the mean over heads."""
        queries, own_keys, own_values = self._parts(states)
        mixed = functional.scaled_dot_product_attention(
            queries, own_keys, own_values, is_causal=True
        )
        asked = self._asked(states + self.merge(_joined(mixed)))
        scores = asked @ keys.transpose(2, 3) * asked.shape[3] ** -0.5
        return scores.float().masked_fill(~real[:, None, None], -torch.inf).softmax(3).mean(1)

    def _rest(
        self, states: Tensor, mixed: Tensor, keys: Tensor, values: Tensor, real: Tensor
    ) -> Tensor:
        states = states + self.dropout(self.merge(_joined(mixed)))
        seen = functional.scaled_dot_product_attention(
            self._asked(states), keys, values, attn_mask=real[:, None, None]
        )
        states = states + self.dropout(self.merge_read(_joined(seen)))
        return states + self.dropout(self.feedforward(states))

    def _parts(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (rows, heads, steps, width / heads)."""
        projected = self.project(self.own_norm(states)).unflatten(2, (3, self.heads, -1))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        return queries, keys, values

    def _asked(self, states: Tensor) -> Tensor:
        return self.ask(self.read_norm(states)).unflatten(2, (self.heads, -1)).transpose(1, 2)


def _joined(mixed: Tensor) -> Tensor:
    """(rows, heads, steps, width / heads) to (rows, steps, width)."""
    return mixed.transpose(1, 2).flatten(2)
