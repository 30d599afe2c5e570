"""Bags of n-grams: what a text says by its words and those that stand together, order aside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

WEIGHTS = 2**21
"""Of all longer n-grams together, unless their number of rows is given."""
PRIME = 1_000_003
UNKNOWN = 1
"""The id of the unknown word in the project's vocabularies."""
GAIN = 8.0
"""What a weight counts for. Adam moves each by about its rate, whatever the gradient, and as most
n-grams are rare, these must go further in a step than those of a network at the same rate."""


class NgramBag(nn.Module):
    """The sum of a learned vector for each word and each ``length`` or fewer that are neighbors.

    Ids (batch, time), padded with ``pad_index``, to logits (batch, outputs); the sum is divided by
    the root of the number of words. Words have vectors of their own; longer n-grams share
    ``buckets`` by a hash (Joulin et al. 2017, section 2.2), None: as many as make two million
    weights. What holds the word ``unknown`` is left out: it would say nothing. That two neighbors
    tell sentiment much better than single words was shown by Wang and Manning (2012).

    Raises ValueError for a ``length`` or ``buckets`` below 1.
    """

    def __init__(
        self,
        outputs: int,
        vocabulary_size: int,
        pad_index: int,
        length: int = 2,
        buckets: int | None = None,
        unknown: int = UNKNOWN,
    ) -> None:
        super().__init__()
        if length < 1:
            raise ValueError(f"ngrams are of at least 1 word, got {length}")
        if buckets is not None and buckets < 1:
            raise ValueError(f"buckets is at least 1, got {buckets}")
        self.length = length
        self.pad_index, self.unknown = pad_index, unknown
        self.buckets = buckets or max(1, WEIGHTS // outputs)
        self.words = nn.Embedding(vocabulary_size, outputs)
        self.others = nn.Embedding(self.buckets, outputs) if length > 1 else None
        for table in (self.words, self.others):
            if table is not None:
                nn.init.zeros_(table.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """Add up what is in the bag."""
        known = (ids != self.pad_index) & (ids != self.unknown)
        total = _added(self.words, ids, known)
        codes, complete = ids.long(), known
        for place in range(1, min(self.length, ids.shape[1])):
            codes = codes[:, :-1] * PRIME + ids[:, place:]
            complete = complete[:, :-1] & known[:, place:]
            assert self.others is not None
            rows = (codes ^ (codes >> 17)) % self.buckets
            total = total + _added(self.others, rows, complete)
        count = (ids != self.pad_index).sum(1, keepdim=True)
        return GAIN * total / count.sqrt()


def _added(table: Callable[[Tensor], Tensor], rows: Tensor, kept: Tensor) -> Tensor:
    """The sum over time of those rows of ``table`` that are ``kept`` (batch, time)."""
    return (table(rows) * kept.unsqueeze(2)).sum(1)


class NgramMixture(NgramBag):
    """The bag beside a reader of the same texts: both give logits, and their mean is taken.

    In training each text is drawn for one of the two, which learns from it alone. Else the
    bag, which learns in no time, would leave the reader nothing to learn.
    """

    def mixed(self, ids: Tensor, reader: Callable[[Tensor | slice], Tensor]) -> Tensor:
        """Logits (batch, outputs); ``reader`` makes such of the ``rows`` of ``ids`` it is asked."""
        if not self.training:
            return (reader(slice(None)) + self(ids)) / 2
        drawn = torch.randperm(len(ids), device=ids.device)
        read, counted = drawn.tensor_split([(len(ids) + 1) // 2])
        logits = torch.cat([reader(read).float(), self(ids[counted])])
        return logits[drawn.argsort()]


class Ngrams(NgramBag):
    """Logits (batch, outputs) from a bag of n-grams and a bias: fastText's linear cousin.

    See :class:`NgramBag`.
    """

    def __init__(self, outputs: int, vocabulary_size: int, pad_index: int, **settings: Any) -> None:
        super().__init__(outputs, vocabulary_size, pad_index, **settings)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, ids: Tensor) -> Tensor:
        return super().forward(ids) + self.bias
