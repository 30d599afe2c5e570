"""Recurrent networks: Elman's, the gated recurrent unit and long short-term memory.

They are exact on padded batches without ``pack_padded_sequence``, which on a processor leaves the
fast kernels of torch: 25 times slower. Padding is on the right, so a layer that reads forwards
meets it only after the sequence; one that reads backwards is given a copy of each sequence that is
reversed within its own length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.contracts.paths import InitialWeights
from dltrain.models.sequence.carried import FOR_CLASSES, Carried, refuse
from dltrain.models.sequence.sequences import sequence_shape

Embedding = Literal["learned", "onehot"]
RecurrentInit = Literal["default", "orthogonal"]


class Recurrent(Carried):
    """Recurrent layers, pooled over time.

    See :class:`~dltrain.models.sequence.sequences.SequenceReader`; and, of data whose target is the
    next token, :class:`~dltrain.models.sequence.carried.Carried`.

    - ``hidden_size`` units a direction in each of ``layers``; with ``bidirectional`` a layer
      reads both ways, and the next one sees both. None: words and sounds both ways, other numbers
      forwards.
    - ``embedding="onehot"`` has no word vectors: the first layer reads each word as a row of the
      identity matrix. That row times the layer's input weights is one column of them, so it is
      looked up, and neither the row nor the product is ever computed. The layer is handed that
      column as its input, with the identity for its input weights. On such a row dropout keeps
      the one or not, so ``embedding_dropout`` leaves whole words out.
    - ``recurrent_init``: ``orthogonal`` recurrent matrices, one for each gate (Saxe et al. 2014;
      Le, Jaitly and Hinton 2015), or torch's ``default``, uniform within 1/sqrt(hidden_size).

    Raises ValueError for layers without units, and for one-hot vectors that are to be normalized,
    tied or read from a file.
    """

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        hidden_size: int = 128,
        layers: int = 1,
        bidirectional: bool | None = None,
        embedding: Embedding = "learned",
        normalize_embedding: bool = False,
        embedding_dropout: float = 0.0,
        recurrent_init: RecurrentInit = "orthogonal",
        vectors: InitialWeights | None = None,
        **settings: Any,
    ) -> None:
        if embedding == "onehot" and vectors is not None:
            raise ValueError("vectors: one-hot vectors are not learned; set embedding=learned")
        super().__init__(
            spec,
            outputs,
            normalize_embedding=normalize_embedding,
            embedding_dropout=embedding_dropout,
            vectors=vectors,
            **settings,
        )
        if self.predicts_next:
            refuse(FOR_CLASSES, bidirectional=bidirectional)
            bidirectional = False
            if self.tied and embedding == "onehot":
                raise ValueError("tied: one-hot words have no vectors to be tied")
        if min(hidden_size, layers) < 1:
            raise ValueError(
                f"hidden_size and layers are at least 1, got {hidden_size} and {layers}"
            )
        reads_words = self.embedding is not None
        self.one_hot = embedding == "onehot" and reads_words
        if self.one_hot and normalize_embedding:
            raise ValueError(
                "normalize_embedding: one-hot vectors are not learned; they stay as they are"
            )
        self.directions = 2 if (self.varies if bidirectional is None else bidirectional) else 1
        if self.one_hot:
            self.embedding_dropout = nn.Dropout1d(embedding_dropout)
        self.hidden_size = hidden_size
        self.depth = layers
        self.recurrent_init = recurrent_init

    def build(self, layer: Callable[[int, int], nn.RNNBase]) -> None:
        """Make the layers, each direction by ``layer(width, hidden_size)``, and what follows."""
        if self.one_hot:
            self._look_up_the_first_layer(layer(1, self.hidden_size))
        width = self.directions * self.hidden_size
        self.layers = nn.ModuleList(
            nn.ModuleList(
                layer(width if depth else self.features, self.hidden_size)
                for _ in range(self.directions)
            )
            for depth in range(self.depth)
        )
        if self.one_hot:
            for first in cast(nn.ModuleList, self.layers[0]):
                _take_inputs_as_they_are(cast(nn.RNNBase, first))
        if self.recurrent_init == "orthogonal":
            self._make_orthogonal()
        self.finish(width, self.hidden_size if self.directions == 2 else 0)

    def _look_up_the_first_layer(self, example: nn.RNNBase) -> None:
        """Let a word's vector be its column of the input weights, of all directions."""
        assert self.embedding is not None
        self.features = len(cast(Tensor, example.weight_ih_l0))
        words, width = self.embedding.num_embeddings, self.directions * self.features
        self.embedding = nn.Embedding(words, width, self.pad_index)
        # As torch draws the input weights of a recurrent layer.
        bound = self.hidden_size**-0.5
        nn.init.uniform_(self.embedding.weight, -bound, bound)

    @torch.no_grad()
    def _make_orthogonal(self) -> None:
        for name, weight in self.layers.named_parameters():
            if "weight_hh" in name:
                for gate in weight.split(self.hidden_size):
                    nn.init.orthogonal_(gate)

    def states(self, vectors: Tensor, real: Tensor) -> Tensor:
        """The states of the last layer (batch, time, directions * hidden_size)."""
        mirrored = mirror(real)
        inputs = vectors.chunk(self.directions, 2) if self.one_hot else [vectors] * self.directions
        states = vectors
        for number, directions in enumerate(self.layers):
            if number:
                inputs = [self.dropout(states)] * self.directions
            forwards, *backwards = cast(nn.ModuleList, directions)
            read = [forwards(inputs[0])[0]]
            for layer in backwards:
                read.append(reorder(layer(reorder(inputs[1], mirrored))[0], mirrored))
            states = torch.cat(read, 2)
        return states


def mirror(real: Tensor) -> Tensor:
    """Where each step goes when sequences are reversed and padding stays behind.

    For ``real`` (batch, time), the (batch * time) rows of the flattened batch.
    """
    batch, time = real.shape
    steps = torch.arange(time, device=real.device)
    mirrored = real.sum(1, keepdim=True) - 1 - steps
    places = torch.where(mirrored < 0, steps, mirrored)
    return (places + time * torch.arange(batch, device=real.device).unsqueeze(1)).flatten()


def reorder(states: Tensor, rows: Tensor) -> Tensor:
    """States (batch, time, width) from those ``rows`` (batch * time).

    Whole rows are copied, which on a processor is three times as fast as ``gather``.
    """
    return states.flatten(0, 1).index_select(0, rows).view_as(states)


def _take_inputs_as_they_are(layer: nn.RNNBase) -> None:
    """Put a constant identity in the place of the input weights."""
    identity = torch.eye(layer.input_size)
    del layer.weight_ih_l0
    layer.register_buffer("weight_ih_l0", identity, persistent=False)
    # torch's layer has a list of its weights beside them, and renews it when one is set.
    layer.weight_ih_l0 = identity


class RNN(Recurrent):
    """The simple recurrent network (Elman 1990): ``h' = f(W x + b + U h + c)``, f tanh or relu."""

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        **settings: Any,
    ) -> None:
        super().__init__(spec, outputs, **settings)
        self.build(partial(nn.RNN, nonlinearity=nonlinearity, batch_first=True))


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014), in the form of cuDNN and torch.

    There the reset gate acts on ``U h + c``, not on ``h``.
    """

    def __init__(self, spec: DataSpec, outputs: int, **settings: Any) -> None:
        super().__init__(spec, outputs, **settings)
        self.build(partial(nn.GRU, batch_first=True))


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gates: Gers et al. 2000).

    ``forget_bias`` is what the forget gates begin with, the sum of the two biases that torch adds
    up. A number, as 1 (Jozefowicz et al. 2015, section 2.2), lets cells remember for a few steps.
    ``chrono`` (Tallec and Ollivier 2018, equation 16) lets each remember for a time of its own,
    up to the length of the sequences: log(u), u drawn evenly from 1 to that length less 1, with
    the input gates at -log(u), so that what is remembered is not drowned. ``default`` leaves
    torch's own, near 0. None: 1 for words and sounds, ``chrono`` for other numbers.

    Raises ValueError for ``chrono`` on words and sounds, which have no length in common.
    """

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        forget_bias: float | Literal["default", "chrono"] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(spec, outputs, **settings)
        self.build(partial(nn.LSTM, batch_first=True))
        if forget_bias is None:
            forget_bias = 1.0 if self.varies else "chrono"
        if forget_bias == "chrono":
            if self.varies:
                raise ValueError(
                    "forget_bias=chrono needs sequences of one length; texts and sounds have many: "
                    "give a number, such as 1.0"
                )
            self._spread_memories(sequence_shape(spec.input)[0])
        elif forget_bias != "default":
            self._open_forget_gates(float(forget_bias))

    @torch.no_grad()
    def _open_forget_gates(self, bias: float) -> None:
        for inputs, recurrent in self._gates():
            inputs[1], recurrent[1] = bias, 0.0

    @torch.no_grad()
    def _spread_memories(self, length: int) -> None:
        for inputs, recurrent in self._gates():
            steps = torch.empty(self.hidden_size).uniform_(1.0, max(1.0, length - 1.0))
            inputs[0], inputs[1], recurrent[:2] = -steps.log(), steps.log(), 0.0

    def _gates(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Both biases of each layer (4, hidden_size): of input, forget, cell and output."""
        for directions in self.layers:
            for layer in cast(nn.ModuleList, directions):
                biases = cast(Tensor, layer.bias_ih_l0), cast(Tensor, layer.bias_hh_l0)
                yield biases[0].view(4, -1), biases[1].view(4, -1)
