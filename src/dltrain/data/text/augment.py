"""Preparing texts: what is done to words in training."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dltrain.contracts.data import Augment, Batch, Draw, Field
from dltrain.data.streams.in_memory import Prepare
from dltrain.data.text.vocabulary import UNKNOWN_INDEX

OF_RARE = 0.3


class WordAugment(Augment):
    """Random changes of texts: the fraction ``word_dropout`` of the words is read as unknown.

    Of Iyyer et al. 2015 (section 3.2, there the words are left out) and Dai and Le 2015: the
    network cannot lean on any single word. None: ``OF_RARE`` where words are rare, else 0: of
    frequent ones more is learned without. Raises ValueError for what is no fraction.
    """

    def __init__(self, word_dropout: float | None = 0.0) -> None:
        if word_dropout is not None and not 0 <= word_dropout < 1:
            raise ValueError(f"word_dropout is a fraction from 0 to below 1, got {word_dropout}")
        self.word_dropout = word_dropout

    def __call__(self, batch: Batch, draw: Draw, fields: Mapping[str, Field]) -> Batch:
        """Change the inputs (batch, time) that are tokens, but never their padding."""
        if self.word_dropout == 0:
            return batch
        changed = dict(batch)
        for name, field in fields.items():
            fraction = self.fraction(field)
            if fraction and field.role == "input" and field.kind == "tokens":
                ids = batch[name]
                drawn = torch.rand(ids.shape, generator=draw.generator, device=ids.device)
                dropped = (drawn < fraction) & (ids != field.fill)
                changed[name] = ids.masked_fill(dropped, UNKNOWN_INDEX)
        return changed

    def fraction(self, field: Field) -> float:
        """How many of a field's words are dropped."""
        if self.word_dropout is not None:
            return self.word_dropout
        return OF_RARE if field.rare else 0.0


def prepare_words(fields: Mapping[str, Field], augment: WordAugment) -> Prepare:
    """Augment the training batches; evaluation sees them as they are."""

    def prepare(batch: Batch, draw: Draw | None) -> Batch:
        return batch if draw is None else augment(batch, draw, fields)

    return prepare
