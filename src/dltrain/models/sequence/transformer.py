"""A self-attention encoder for sequences (Vaswani et al. 2017), normalized before each part."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec
from dltrain.errors import UserError
from dltrain.models.layers.pooling import Pooling
from dltrain.models.sequence.sequences import SequenceReader

Positions = Literal["rotary", "sinusoidal", "learned"]


class SelfAttention(SequenceReader):
    """Layers of attention over all steps.

    See :class:`~dltrain.models.sequence.sequences.SequenceReader`.

    - ``embedding_size`` is the width of all layers, divided among ``heads``; numbers are brought
      to it by a dense layer.
    - Each of ``layers`` is attention, then a dense layer of ``feedforward`` units; both are added
      to what they were given, after normalization (pre-norm: Xiong et al. 2020) and ``dropout``.
    - ``positions``: ``rotary`` (Su et al. 2021) turn queries and keys, so that attention sees how
      far apart two steps are; ``sinusoidal`` (Vaswani et al. 2017, section 3.5) and ``learned``
      ones are added to the vectors. Learned ones are for at most ``max_length`` steps.

    Padding is never attended to. Raises ValueError for sizes that do not fit each other, and
    :class:`UserError` for a sequence beyond the learned positions.
    """

    dropouts = (0.1, 0.3)

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        layers: int = 2,
        heads: int = 4,
        feedforward: int = 256,
        positions: Positions = "rotary",
        max_length: int = 512,
        embedding_size: int = 128,
        dropout: float | None = None,
        pooling: Pooling | None = "attention",
        **settings: Any,
    ) -> None:
        super().__init__(
            spec,
            outputs,
            embedding_size=embedding_size,
            dropout=dropout,
            pooling=pooling,
            **settings,
        )
        if min(layers, heads, feedforward, max_length) < 1:
            raise ValueError("layers, heads, feedforward and max_length are at least 1")
        if embedding_size % (2 * heads):
            raise ValueError(
                f"embedding_size {embedding_size} is no multiple of twice the heads, {heads}"
            )
        self.width, self.heads = embedding_size, heads
        self.enlarge = (
            nn.Identity() if self.embedding is not None else nn.Linear(self.features, self.width)
        )
        self.positions = positions
        self.learned = nn.Embedding(max_length, self.width) if positions == "learned" else None
        self.layers = nn.ModuleList(
            Layer(self.width, heads, feedforward, self.dropout.p) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(self.width)
        self.finish(self.width)

    def states(self, vectors: Tensor, real: Tensor) -> Tensor:
        """The states after all layers (batch, time, embedding_size)."""
        states, turns = self.enlarge(vectors), None
        if self.positions == "rotary":
            turns = sinusoids(vectors.shape[1], self.width // self.heads, vectors.device)
        else:
            states = states + self._places(vectors)
        states = self.dropout(states)
        for layer in self.layers:
            states = layer(states, real[:, None, None], turns)
        return self.norm(states)

    def _places(self, vectors: Tensor) -> Tensor:
        """What is added to each step (time, embedding_size)."""
        length = vectors.shape[1]
        if self.learned is None:
            return sinusoids(length, self.width, vectors.device).flatten(1)
        if length > self.learned.num_embeddings:
            raise UserError(
                f"a sequence of {length} steps has more than the {self.learned.num_embeddings} "
                "learned positions; set model.max_length, or model.positions=rotary"
            )
        return self.learned.weight[:length]


class Layer(nn.Module):
    """Attention and a feed-forward layer, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        for part in self.project.weight.split(width):
            nn.init.xavier_uniform_(part)
        self.merge = nn.Linear(width, width)
        self.feedforward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, feedforward),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(feedforward, width),
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, seen: Tensor, turns: Tensor | None) -> Tensor:
        """States (batch, time, width) to new ones; ``seen`` (batch, 1, 1, time) may be attended.

        ``turns`` (time, width / heads / 2, 2): sine and cosine of the angle by which each pair of
        values in queries and keys is turned.
        """
        # (batch, time, 3 width) to three of (batch, heads, time, width / heads).
        projected = self.project(self.attention_norm(states)).unflatten(2, (3, self.heads, -1))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        if turns is not None:
            queries, keys = turned(queries, turns), turned(keys, turns)
        mixed = functional.scaled_dot_product_attention(queries, keys, values, attn_mask=seen)
        states = states + self.dropout(self.merge(mixed.transpose(1, 2).flatten(2)))
        return states + self.dropout(self.feedforward(states))


def sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Sines and cosines of wavelengths from 2 pi to 20,000 pi (length, width / 2, 2)."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(10_000) / width))
    angles = torch.arange(length, device=device).unsqueeze(1) * rates
    return torch.stack([angles.sin(), angles.cos()], 2)


def turned(vectors: Tensor, turns: Tensor) -> Tensor:
    """Turn each pair of values of ``vectors`` (..., time, width) by its step's angles."""
    sines, cosines = turns.to(vectors.dtype).unbind(2)
    first, second = vectors.unflatten(-1, (-1, 2)).unbind(-1)
    pairs = [first * cosines - second * sines, first * sines + second * cosines]
    return torch.stack(pairs, -1).flatten(-2)
