"""Words as vectors, by their ids."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

# Keeps a dimension in which all words agree from being divided by zero.
EPSILON = 1e-6


class WordEmbedding(nn.Embedding):
    """A learned vector for each word: ids (batch, time) to (batch, time, width).

    With ``frequencies`` (the words' fractions of the training text, summing to 1) the vectors are
    normalized to mean 0 and variance 1 in each dimension, words weighted by frequency
    (Miyato, Dai and Goodfellow 2016, equation 1): a perturbation of a given length then cannot be
    made harmless by growing vectors. The gradient passes through mean and variance.

    They are drawn from a normal distribution with that ``std``. Raises ValueError for frequencies
    that are not one to a word, and for a std that is not above 0.
    """

    frequencies: Tensor | None

    def __init__(
        self,
        vocabulary_size: int,
        width: int,
        pad_index: int,
        frequencies: Sequence[float] | None = None,
        std: float = 1.0,
    ) -> None:
        super().__init__(vocabulary_size, width, padding_idx=pad_index)
        if not std > 0:
            raise ValueError(f"embedding_std is above 0, got {std}")
        with torch.no_grad():
            self.weight.mul_(std)
        if frequencies is not None and len(frequencies) != vocabulary_size:
            raise ValueError(
                f"normalize_embedding needs the frequency of each of the {vocabulary_size} words, "
                f"got {len(frequencies)}"
            )
        known = None if frequencies is None else torch.tensor(frequencies, dtype=torch.float32)
        self.register_buffer("frequencies", known, persistent=False)

    def table(self) -> Tensor:
        """The vectors as the network reads them (vocabulary, width)."""
        if self.frequencies is None:
            return self.weight
        mean = self.frequencies @ self.weight
        centered = self.weight - mean
        return centered * (self.frequencies @ centered.square() + EPSILON).rsqrt()

    def forward(self, ids: Tensor) -> Tensor:
        """Look the words up."""
        return functional.embedding(ids, self.table(), self.padding_idx)
