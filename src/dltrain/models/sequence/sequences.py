"""What all readers of sequences share: words to vectors, states to one vector, that to logits."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec, Field
from dltrain.contracts.paths import InitialWeights
from dltrain.models.layers.embedding import WordEmbedding
from dltrain.models.layers.pooling import POOLS, Pooling
from dltrain.models.layers.word_vectors import take_vectors
from dltrain.models.sequence.ngrams import NgramMixture

SMALL_STD = 0.1
"""Of the initial vectors of rare words: most stay about as they were drawn, and what is large in
them is memorized."""


class SequenceReader(nn.Module, ABC):
    """Words (batch, time), or numbers (batch, time, features), to logits (batch, outputs).

    Numbers are sequences of one length, or frames of sounds with their lengths (batch,).

    Which of the two, the one input of ``spec`` says; nothing else of the spec is asked::

        words = DataSpec({"text": Field((None,), "tokens", "input", size=20_000, fill=0)})
        numbers = DataSpec({"series": Field((200, 2), "number", "input")})
        LSTM(words, outputs=2, hidden_size=256), LSTM(numbers, outputs=1)

    Words are ids below the field's ``size``, padded on the right with its ``fill``; each text has
    at least one word. What a reader says of a text depends neither on how far it is padded nor on
    what it is batched with; nor does what it says of a sound. Numbers are of the shape (time,
    features), and for them the settings that concern words do nothing.

    - ``embedding_size`` is the width of the word vectors, ``embedding_dropout`` acts on them.
    - ``embedding_std`` is the std that the vectors begin with. None: 1, or ``SMALL_STD`` where
      words are rare (:attr:`~dltrain.contracts.data.Field.rare`).
    - ``normalize_embedding``: see :class:`~dltrain.models.layers.embedding.WordEmbedding`; it needs
      the field's ``counts``.
    - ``dropout`` acts between the layers and before the output. None: the second of ``dropouts``
      where words are rare, else the first.
    - ``pooling``: see :mod:`dltrain.models.layers.pooling`. None is ``max`` over words and frames
      of sound, ``last`` over other numbers: there a maximum of each step would do without memory.
    - ``vectors`` is a file of word vectors to begin with, of the width ``embedding_size``; see
      :func:`~dltrain.models.layers.word_vectors.take_vectors`. Words without one, and padding, are
      as ever.
    - ``ngrams`` above 0 mixes in a bag of n-grams of up to so many words; see
      :class:`~dltrain.models.sequence.ngrams.NgramMixture`.

    Raises ValueError for inputs that are neither, and for sizes and fractions that are none.
    """

    dropouts = (0.0, 0.5)

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        embedding_size: int = 100,
        embedding_std: float | None = None,
        normalize_embedding: bool = False,
        embedding_dropout: float = 0.0,
        dropout: float | None = None,
        pooling: Pooling | None = None,
        ngrams: int = 0,
        vectors: InitialWeights | None = None,
    ) -> None:
        super().__init__()
        if embedding_size < 1:
            raise ValueError(f"embedding_size is at least 1, got {embedding_size}")
        source = spec.input
        reads_words = source.kind == "tokens"
        self.varies = reads_words or source.kind == "audio"
        if dropout is None:
            dropout = self.dropouts[source.rare]
        for name, fraction in (("embedding_dropout", embedding_dropout), ("dropout", dropout)):
            if not 0 <= fraction < 1:
                raise ValueError(f"{name} is a fraction from 0 to below 1, got {fraction}")
        self.outputs = outputs
        self.pooling_name = pooling or ("max" if self.varies else "last")
        self.embedding_dropout: nn.Module = nn.Dropout(embedding_dropout)
        self.dropout = nn.Dropout(dropout)
        self.embedding: nn.Embedding | None = None
        self.bag: NgramMixture | None = None
        if reads_words:
            size, self.pad_index = _vocabulary(source)
            if normalize_embedding and not source.counts:
                raise ValueError("normalize_embedding: the data do not tell the words' frequencies")
            frequencies = source.frequencies if normalize_embedding else None
            if embedding_std is None:
                embedding_std = SMALL_STD if source.rare else 1.0
            self.embedding = WordEmbedding(
                size, embedding_size, self.pad_index, frequencies, embedding_std
            )
            self.features = embedding_size
            if vectors is not None:
                take_vectors(self.embedding.weight, vectors, source.names, source.counts)
            if ngrams:
                self.bag = NgramMixture(outputs, size, self.pad_index, ngrams)
        elif source.kind == "audio":
            self.features = frame_size(source)
        else:
            _, self.features = sequence_shape(source)

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

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Read whole sequences; ``lengths`` (batch,) are those of sounds."""
        if self.embedding is None:
            return self._answer(inputs, None, lengths)
        if self.bag is None:
            return self._answer(self.embed(inputs), inputs)
        # Only what is to be read is embedded.
        return self.bag.mixed(
            inputs, lambda rows: self._answer(self.embed(inputs[rows]), inputs[rows])
        )

    def _answer(self, vectors: Tensor, ids: Tensor | None, lengths: Tensor | None = None) -> Tensor:
        real = self._real(vectors, ids) if lengths is None else real_steps(vectors, lengths)
        return self.output(self.dropout(self.pooling(self.states(vectors, real), real)))

    def embedding_weight(self) -> Tensor | None:
        """The vectors as they are read (vocabulary, width); None where words have none."""
        return self.embedding.table() if isinstance(self.embedding, WordEmbedding) else None

    def attention_weights(self, ids: Tensor) -> Tensor | None:
        """How much each word counts (batch, time), rows summing to 1; None if not learned."""
        vectors = self.embed(ids)
        real = self._real(vectors, ids)
        return self.pooling.weights(self.states(vectors, real), real)

    def _real(self, vectors: Tensor, ids: Tensor | None) -> Tensor:
        if ids is None:
            return torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
        return ids != self.pad_index


def real_steps(steps: Tensor, lengths: Tensor) -> Tensor:
    """Which of the steps (batch, time, …) of sequences of ``lengths`` (batch,) are no padding."""
    return torch.arange(steps.shape[1], device=steps.device) < lengths[:, None]


def frame_size(source: Field) -> int:
    """Features of each frame of a sound. Raises ValueError for any other input."""
    if source.kind != "audio" or len(source.shape) != 2 or source.shape[1] is None:
        raise ValueError(
            "this model reads frames of sounds (time, features); the data's inputs are of kind "
            f"{source.kind}"
        )
    return source.shape[1]


def sequence_shape(source: Field) -> tuple[int, int]:
    """Time and features of the sequences of numbers in ``source``.

    Raises ValueError where it holds anything else.
    """
    shape = source.shape
    if len(shape) != 2 or shape[0] is None or shape[1] is None:
        sides = "x".join("?" if side is None else str(side) for side in shape) or "single numbers"
        raise ValueError(
            "this model reads words or sequences of numbers (time, features); "
            f"the data's inputs are {sides}"
        )
    return shape[0], shape[1]


def forecasts(spec: DataSpec) -> bool:
    """Whether the data's target are steps (horizon, series) that follow its input."""
    fields = [*spec.of("input"), *spec.of("target")]
    return [(field.kind, len(field.shape)) for field in fields] == [("number", 2)] * 2


def _vocabulary(source: Field) -> tuple[int, int]:
    """How many words there are, and which of them is the padding."""
    if source.size is None or source.fill is None:
        raise ValueError("the data do not tell the size of their vocabulary and its padding")
    return source.size, int(source.fill)
