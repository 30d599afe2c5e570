"""Recurrent networks: Elman's, the gated recurrent unit and long short-term memory.

They are exact on padded batches without ``pack_padded_sequence``, which on a processor leaves the
fast kernels of torch: 25 times slower. Padding is on the right, so a layer that reads forwards
meets it only after the sequence; one that reads backwards is given a copy of each sequence that is
reversed within its own length.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from dltrain.models.sequences import SequenceReader

RecurrentInit = Literal["default", "orthogonal"]


class Recurrent(SequenceReader):
    """Recurrent layers, pooled over time; see :class:`~dltrain.models.sequences.SequenceReader`.

    - ``hidden_size`` units a direction in each of ``layers``; with ``bidirectional`` a layer
      reads both ways, and the next one sees both.
    - ``recurrent_init``: ``orthogonal`` recurrent matrices, one for each gate (Saxe et al. 2014;
      Le, Jaitly and Hinton 2015), or torch's ``default``, uniform within 1/sqrt(hidden_size).

    Raises ValueError for layers without units.
    """

    def __init__(
        self,
        outputs: int,
        hidden_size: int = 128,
        layers: int = 1,
        bidirectional: bool = False,
        recurrent_init: RecurrentInit = "default",
        **settings: Any,
    ) -> None:
        super().__init__(outputs, **settings)
        if min(hidden_size, layers) < 1:
            raise ValueError(
                f"hidden_size and layers are at least 1, got {hidden_size} and {layers}"
            )
        self.hidden_size = hidden_size
        self.directions = 2 if bidirectional else 1
        self.depth = layers
        self.recurrent_init = recurrent_init

    def build(self, layer: Callable[[int, int], nn.RNNBase]) -> None:
        """Make the layers, each direction by ``layer(width, hidden_size)``, and what follows."""
        width = self.directions * self.hidden_size
        self.layers = nn.ModuleList(
            nn.ModuleList(layer(before, self.hidden_size) for _ in range(self.directions))
            for before in [self.features, *[width] * (self.depth - 1)]
        )
        if self.recurrent_init == "orthogonal":
            self._make_orthogonal()
        self.finish(width, self.hidden_size if self.directions == 2 else 0)

    @torch.no_grad()
    def _make_orthogonal(self) -> None:
        for name, weight in self.layers.named_parameters():
            if "weight_hh" in name:
                for gate in weight.split(self.hidden_size):
                    nn.init.orthogonal_(gate)

    def states(self, vectors: Tensor, real: Tensor) -> Tensor:
        """The states of the last layer (batch, time, directions * hidden_size)."""
        mirrored = mirror(real)
        states = vectors
        for number, directions in enumerate(self.layers):
            if number:
                states = self.dropout(states)
            forwards, *backwards = cast(nn.ModuleList, directions)
            read = [forwards(states)[0]]
            for layer in backwards:
                read.append(reorder(layer(reorder(states, mirrored))[0], mirrored))
            states = torch.cat(read, 2)
        return states


def mirror(real: Tensor) -> Tensor:
    """Where each step goes (batch, time) when sequences are reversed and padding stays behind."""
    steps = torch.arange(real.shape[1], device=real.device)
    reversed_steps = real.sum(1, keepdim=True) - 1 - steps
    return torch.where(reversed_steps < 0, steps, reversed_steps)


def reorder(states: Tensor, places: Tensor) -> Tensor:
    """States (batch, time, width) from ``places`` (batch, time)."""
    return states.gather(1, places.unsqueeze(2).expand_as(states))


class RNN(Recurrent):
    """The simple recurrent network (Elman 1990): ``h' = f(W x + b + U h + c)``, f tanh or relu."""

    def __init__(
        self, outputs: int, nonlinearity: Literal["tanh", "relu"] = "tanh", **settings: Any
    ) -> None:
        super().__init__(outputs, **settings)
        self.build(partial(nn.RNN, nonlinearity=nonlinearity, batch_first=True))


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014), in the form of cuDNN and torch.

    There the reset gate acts on ``U h + c``, not on ``h``.
    """

    def __init__(self, outputs: int, **settings: Any) -> None:
        super().__init__(outputs, **settings)
        self.build(partial(nn.GRU, batch_first=True))


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gates: Gers et al. 2000).

    ``forget_bias`` is what the forget gates begin with (1: Jozefowicz et al. 2015, section 2.2):
    the sum of the two biases that torch adds up. None leaves torch's own, near 0.
    """

    def __init__(self, outputs: int, forget_bias: float | None = 1.0, **settings: Any) -> None:
        super().__init__(outputs, **settings)
        self.build(partial(nn.LSTM, batch_first=True))
        if forget_bias is not None:
            self._open_forget_gates(forget_bias)

    @torch.no_grad()
    def _open_forget_gates(self, bias: float) -> None:
        # torch's order of the gates is input, forget, cell, output.
        forget = slice(self.hidden_size, 2 * self.hidden_size)
        for name, parameter in self.layers.named_parameters():
            if "bias" in name:
                parameter[forget] = bias if "bias_ih" in name else 0.0
