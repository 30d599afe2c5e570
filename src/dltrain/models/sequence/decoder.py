"""A transformer that predicts what comes next: a decoder alone (Radford et al. 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_at_least
from dltrain.models.sequence.language import NextToken, State, predicts_next_token
from dltrain.models.sequence.sequences import forecasts, sequence_shape
from dltrain.models.sequence.transformer import sinusoids, turned

STD = 0.02
"""Of the initial weights, as GPT-2 has them."""


class Decoder(nn.Module):
    """Layers of attention to what was read before, each beside a dense part.

    Ids (rows, time) to logits (rows, time, outputs). ``embedding_size`` is the width of all layers,
    divided among ``heads``; each of ``layers`` is attention, then a dense part of ``feedforward``
    units (None: 4 times the width) with GELU, both behind RMSNorm (Zhang and Sennrich 2019) and
    beside a shortcut. Positions are rotary (Su et al. 2021). ``dropout`` acts on the vectors and on
    what each part adds. ``tied``: the output's weights are the vectors of the tokens.

    It reads as many tokens at a time as a window of the data has. Read on, it keeps the keys and
    values of what it has read. Of series (rows, time, series), whose steps a dense layer brings to
    its width, it gives the forecast (rows, outputs) after the last step. Raises ValueError for data
    whose target is neither the next token nor a forecast, and for sizes that do not fit each other.
    """

    carries = False

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        layers: int = 4,
        heads: int = 4,
        embedding_size: int = 128,
        feedforward: int | None = None,
        dropout: float = 0.0,
        tied: bool = True,
    ) -> None:
        super().__init__()
        self.forecasts = forecasts(spec)
        if not self.forecasts and not predicts_next_token(spec):
            raise ValueError(
                "this network predicts the next token of a text, as data=text_file asks for, or "
                "forecasts series; to classify texts take model=attention"
            )
        require_at_least(1, layers=layers, heads=heads, embedding_size=embedding_size)
        if feedforward is not None:
            require_at_least(1, feedforward=feedforward)
        if embedding_size % (2 * heads):
            raise ValueError(
                f"embedding_size must be a multiple of twice the heads, {2 * heads}; got "
                f"{embedding_size}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {dropout}")
        window = spec.input.shape[0]
        assert window is not None, "it was checked"
        self.context: int | None = window
        self.head_size = embedding_size // heads
        self.embedding: nn.Module
        self.next: nn.Module
        if self.forecasts:
            self.embedding = nn.Linear(sequence_shape(spec.input)[1], embedding_size)
        else:
            self.embedding = nn.Embedding(outputs, embedding_size)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            DecoderLayer(embedding_size, heads, feedforward or 4 * embedding_size, dropout)
            for _ in range(layers)
        )
        self.norm = nn.RMSNorm(embedding_size)
        if isinstance(self.embedding, nn.Embedding):
            self.next = NextToken(embedding_size, outputs, self.embedding if tied else None)
        else:
            self.next = nn.Linear(embedding_size, outputs)
        turns = sinusoids(window, self.head_size, torch.device("cpu"))
        self.register_buffer("turns", turns, persistent=False)
        self._initialize(layers)

    @torch.no_grad()
    def _initialize(self, layers: int) -> None:
        """Normal weights; smaller where their results add up along the shortcut."""
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                adds_up = name.endswith(("merge.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=STD / (2 * layers) ** 0.5 if adds_up else STD)

    def forward(self, ids: Tensor) -> Tensor:
        return self.read_on(ids, ())[0]

    def initial_state(self, rows: int) -> State:
        """Nothing: a window is read from its beginning."""
        return ()

    def read_on(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Read ``ids`` behind what ``state`` holds: keys and values of each layer."""
        before = state[0].shape[2] if state else 0
        after = before + ids.shape[1]
        turns = self._turns(after)[before:after]
        states = self.dropout(self.embedding(ids))
        kept: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            states, *pair = layer(states, turns, *state[2 * number : 2 * number + 2])
            kept += pair
        states = self.norm(states[:, -1] if self.forecasts else states)
        logits: Tensor = self.next(states)
        return logits, tuple(kept)

    def _turns(self, time: int) -> Tensor:
        """The angles of ``time`` steps, of which those of a window are at hand."""
        turns = self.turns
        assert isinstance(turns, Tensor)
        return turns if time <= len(turns) else sinusoids(time, self.head_size, turns.device)


class DecoderLayer(nn.Module):
    """Causal attention and a dense part, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.RMSNorm(width)
        self.project = nn.Linear(width, 3 * width, bias=False)
        self.merge = nn.Linear(width, width, bias=False)
        self.norm = nn.RMSNorm(width)
        self.widen = nn.Linear(width, feedforward, bias=False)
        self.narrow = nn.Linear(feedforward, width, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        states: Tensor,
        turns: Tensor,
        keys_before: Tensor | None = None,
        values_before: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """States (rows, time, width) to new ones, with the keys and values of all that is read."""
        projected = self.project(self.attention_norm(states)).unflatten(2, (3, self.heads, -1))
        queries, keys, values = projected.permute(2, 0, 3, 1, 4)
        queries, keys = turned(queries, turns), turned(keys, turns)
        seen, causal = None, bool(states.shape[1] > 1)  # traced, sizes are tensors
        if keys_before is not None and values_before is not None:
            keys = torch.cat([keys_before, keys], 2)
            values = torch.cat([values_before, values], 2)
            if causal:
                time, all_of_it = states.shape[1], keys.shape[2]
                seen = torch.ones(time, all_of_it, dtype=torch.bool, device=states.device)
                seen, causal = seen.tril(all_of_it - time), False
        mixed = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=seen, is_causal=causal
        )
        states = states + self.dropout(self.merge(mixed.transpose(1, 2).flatten(2)))
        wide = functional.gelu(self.widen(self.norm(states)))
        return states + self.dropout(self.narrow(wide)), keys, values
