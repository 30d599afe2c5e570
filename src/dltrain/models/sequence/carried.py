"""Recurrent layers that read a text on and on: their state is carried from part to part."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_fraction
from dltrain.models.layers.embedding import WordEmbedding
from dltrain.models.sequence.language import (
    LockedDropout,
    NextToken,
    State,
    predicts_next_token,
)
from dltrain.models.sequence.sequences import SMALL_STD, SequenceReader

FOR_CLASSES = "of a language model, which predicts a token at every step from those before it"
FOR_LANGUAGE = "but of a language model, as data=text_file asks for"


class Carried(SequenceReader):
    """Recurrent layers; where the target is the next token, a language model.

    Nothing is pooled then: there are logits (batch, time, outputs), and :meth:`read_on` goes on
    from a state. Dropout is that of Merity, Keskar and Socher (2018): one mask for all steps of a
    window, and beside the two of all readers

    - ``word_dropout`` of the vectors of whole words, ``recurrent_dropout`` of recurrent weights,
      ``output_dropout`` before the output (None: as ``dropout``).
    - ``tied``: the output's weights are the vectors of the words.

    Raises ValueError for what a language model has no use for, or nothing but such a model.
    """

    carries = True
    context: int | None = None
    layers: nn.ModuleList
    """Of each layer its directions: of a language model one."""

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        tied: bool = False,
        word_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        output_dropout: float | None = None,
        **settings: Any,
    ) -> None:
        predicts_next = predicts_next_token(spec)
        if tied and predicts_next and settings.get("embedding_std") is None:
            settings["embedding_std"] = SMALL_STD  # or the first logits are far too sure
        super().__init__(spec, outputs, **settings)
        self.predicts_next, self.tied = predicts_next, tied
        self.word_dropout, self.recurrent_dropout = word_dropout, recurrent_dropout
        last = self.dropout.p if output_dropout is None else output_dropout
        require_fraction(
            word_dropout=word_dropout, recurrent_dropout=recurrent_dropout, output_dropout=last
        )
        if not predicts_next:
            refuse(
                FOR_LANGUAGE,
                tied=tied,
                word_dropout=word_dropout,
                recurrent_dropout=recurrent_dropout,
                output_dropout=output_dropout,
            )
            return
        refuse(FOR_CLASSES, pooling=settings.get("pooling"), ngrams=settings.get("ngrams"))
        if recurrent_dropout:
            # Weights with some of them dropped are new at each step, so that cuDNN packs them.
            warnings.filterwarnings("ignore", "RNN module weights are not part", UserWarning)
        self.dropout = LockedDropout(self.dropout.p)
        self.embedding_dropout = LockedDropout(settings.get("embedding_dropout", 0.0))
        self.output_dropout = LockedDropout(last)

    def finish(self, width: int, backward: int = 0) -> None:
        """Add what follows the states: the logits of the next token, or else pooling."""
        if not self.predicts_next:
            super().finish(width, backward)
            return
        self.next = NextToken(width, self.outputs, self.embedding if self.tied else None)

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Logits (batch, outputs) of whole sequences, or (batch, time, outputs) of each step."""
        if self.predicts_next:
            return self.read_on(inputs, self.initial_state(len(inputs)))[0]
        return super().forward(inputs, lengths)

    def embed(self, ids: Tensor) -> Tensor:
        """The vectors of the words (batch, time, features), dropout included."""
        if not (self.training and self.word_dropout):
            return super().embed(ids)
        assert self.embedding is not None
        table: Tensor = self.embedding.weight
        if isinstance(self.embedding, WordEmbedding):
            table = self.embedding.table()
        kept = functional.dropout(torch.ones_like(table[:, :1]), self.word_dropout)
        return self.embedding_dropout(functional.embedding(ids, table * kept))

    def initial_state(self, rows: int) -> State:
        """Zeros (layers, rows, hidden_size): hidden states, and cells where there are any."""
        (first,) = cast(Iterable[nn.RNNBase], self.layers[0])
        weight = cast(Tensor, first.weight_hh_l0)
        zeros = weight.new_zeros(len(self.layers), rows, first.hidden_size)
        return (zeros, zeros) if isinstance(first, nn.LSTM) else (zeros,)

    def read_on(self, ids: Tensor, state: State) -> tuple[Tensor, State]:
        """See :class:`~dltrain.models.sequence.language.ReadsOn`."""
        states = self.embed(ids)
        left: list[State] = []
        for number, directions in enumerate(self.layers):
            (layer,) = cast(Iterable[nn.RNNBase], directions)
            if number:
                states = self.dropout(states)
            before = tuple(part[number : number + 1] for part in state)
            states, after = self._run(layer, states, before)
            left.append(after)
        logits: Tensor = self.next(self.output_dropout(states))
        return logits, tuple(torch.cat(parts) for parts in zip(*left, strict=True))

    def _run(self, layer: Any, inputs: Tensor, state: State) -> tuple[Tensor, State]:
        """One layer, its recurrent weights dropped in training (Wan et al. 2013)."""
        weights = layer._flat_weights
        if self.training and self.recurrent_dropout:
            layer._flat_weights = [
                functional.dropout(weight, self.recurrent_dropout)
                if name.startswith("weight_hh")
                else weight
                for name, weight in zip(layer._flat_weights_names, weights, strict=True)
            ]
        try:
            states, after = layer(inputs, state if len(state) > 1 else state[0])
        finally:
            layer._flat_weights = weights
        return states, after if isinstance(after, tuple) else (after,)


def refuse(why: str, **settings: Any) -> None:
    """Raise ValueError for a setting that says anything."""
    for name, value in settings.items():
        if value:
            raise ValueError(f"{name} is no setting {why}")
