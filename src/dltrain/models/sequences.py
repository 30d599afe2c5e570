"""What all readers of sequences share: words to vectors, states to one vector, that to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dltrain.models.embedding import WordEmbedding
from dltrain.models.ngrams import NgramMixture
from dltrain.models.pooling import POOLS, Pooling


class SequenceReader(nn.Module, ABC):
    """Words (batch, time), or numbers (batch, time, features), to logits (batch, outputs).

    Words are ids, padded on the right with ``pad_index``; each review has at least one word.
    What a reader says of a review depends neither on how far it is padded nor on what it is
    batched with. Where the data have a vocabulary it reads words, else ``input_shape``
    (time, features), and the settings that concern words do nothing.

    - ``embedding_size`` is the width of the word vectors, ``embedding_dropout`` acts on them.
    - ``normalise_embedding``: see :class:`~dltrain.models.embedding.WordEmbedding`.
    - ``dropout`` acts between the layers and before the output.
    - ``pooling``: see :mod:`dltrain.models.pooling`. None is ``max`` over words, and ``last`` where
      numbers are read: there a maximum of each step would do without any memory.
    - ``ngrams`` above 0 mixes in a bag of n-grams of up to so many words; see
      :class:`~dltrain.models.ngrams.NgramMixture`.

    Raises ValueError for inputs that are neither, and for sizes and shares that are none.
    """

    def __init__(
        self,
        outputs: int,
        vocabulary_size: int | None = None,
        pad_index: int = 0,
        word_frequencies: Sequence[float] | None = None,
        input_shape: Sequence[int] | None = None,
        embedding_size: int = 100,
        normalise_embedding: bool = False,
        embedding_dropout: float = 0.0,
        dropout: float = 0.0,
        pooling: Pooling | None = None,
        ngrams: int = 0,
        unknown_index: int = 1,
    ) -> None:
        super().__init__()
        if embedding_size < 1:
            raise ValueError(f"embedding_size is at least 1, got {embedding_size}")
        for name, share in (("embedding_dropout", embedding_dropout), ("dropout", dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name} is a share from 0 to below 1, got {share}")
        self.outputs = outputs
        self.pad_index = pad_index
        self.pooling_name = pooling or ("last" if vocabulary_size is None else "max")
        self.embedding_dropout: nn.Module = nn.Dropout(embedding_dropout)
        self.dropout = nn.Dropout(dropout)
        self.embedding: nn.Embedding | None = None
        self.bag: NgramMixture | None = None
        if vocabulary_size is not None:
            if normalise_embedding and word_frequencies is None:
                raise ValueError("normalise_embedding: the data do not tell the words' frequencies")
            self.embedding = WordEmbedding(
                vocabulary_size,
                embedding_size,
                pad_index,
                word_frequencies if normalise_embedding else None,
            )
            self.features = embedding_size
            if ngrams:
                self.bag = NgramMixture(outputs, vocabulary_size, pad_index, unknown_index, ngrams)
        elif input_shape is not None and len(input_shape) == 2:
            self.features = input_shape[1]
        else:
            shape = "x".join(map(str, input_shape or ())) or "unknown"
            raise ValueError(
                "this model reads words or sequences of numbers (time, features); "
                f"the data's inputs are {shape}"
            )

    def finish(self, width: int, backward: int = 0) -> None:
        """Add what follows the states, of which the last ``backward`` were read from the right."""
        self.pooling = POOLS[self.pooling_name](width, backward)
        self.output = nn.Linear(width, self.outputs)

    @abstractmethod
    def states(self, vectors: Tensor, real: Tensor) -> Tensor:
        """Vectors (batch, time, features) to states (batch, time, width), as ``real`` says."""

    def embed(self, ids: Tensor) -> Tensor:
        """The vectors of the words (batch, time, features), dropout included."""
        assert self.embedding is not None
        return self.embedding_dropout(self.embedding(ids))

    def read(self, vectors: Tensor, ids: Tensor | None) -> Tensor:
        """Logits (batch, outputs) from vectors; ``ids`` say which are padding, None: none."""
        if self.bag is None or ids is None:
            return self._answer(vectors, ids)
        return self.bag.mixed(ids, lambda rows: self._answer(vectors[rows], ids[rows]))

    def forward(self, inputs: Tensor) -> Tensor:
        """Read whole sequences."""
        if self.embedding is None:
            return self._answer(inputs, None)
        if self.bag is None:
            return self._answer(self.embed(inputs), inputs)
        # Only what is to be read is embedded.
        return self.bag.mixed(
            inputs, lambda rows: self._answer(self.embed(inputs[rows]), inputs[rows])
        )

    def _answer(self, vectors: Tensor, ids: Tensor | None) -> Tensor:
        real = self._real(vectors, ids)
        return self.output(self.dropout(self.pooling(self.states(vectors, real), real)))

    def embedding_weight(self) -> Tensor | None:
        """The vectors as they are read (vocabulary, width); None where words have none."""
        return self.embedding.table() if isinstance(self.embedding, WordEmbedding) else None

    def attention_weights(self, ids: Tensor) -> Tensor | None:
        """How much each word counts (batch, time), rows summing to 1; None if not learnt."""
        vectors = self.embed(ids)
        real = self._real(vectors, ids)
        return self.pooling.weights(self.states(vectors, real), real)

    def _real(self, vectors: Tensor, ids: Tensor | None) -> Tensor:
        if ids is None:
            return torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
        return ids != self.pad_index
