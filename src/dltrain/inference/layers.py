"""Layers that exporters cannot take, written so that they can; the numbers are the same."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

Step = tuple[tuple[Tensor, ...], Tensor]
"""What is carried on, and the state of the step."""
N = TypeVar("N", bound=nn.Module)


def replaced(network: N, kind: type[nn.Module], make: Callable[[Any], nn.Module]) -> N:
    """``network``, its weights shared, with what ``make`` makes of each layer of a ``kind``.

    Without any it is returned itself.
    """
    if not any(isinstance(part, kind) for part in network.modules()):
        return network
    weights = [*network.parameters(), *network.buffers()]
    copied = copy.deepcopy(network, {id(weight): weight for weight in weights})
    for part in list(copied.modules()):
        for name, child in part.named_children():
            if isinstance(child, kind):
                setattr(part, name, make(child))
    return copied


class Averaged(nn.Module):
    """``AdaptiveAvgPool2d`` as two products of matrices.

    ONNX has no such pooling where the output's sides do not divide the input's.
    """

    def __init__(self, layer: nn.AdaptiveAvgPool2d) -> None:
        super().__init__()
        size = layer.output_size
        self.size = size if isinstance(size, tuple) else (size, size)

    def forward(self, images: Tensor) -> Tensor:
        """Maps (batch, c, h, w) at the layer's size."""
        sides = zip(images.shape[2:], self.size, strict=True)
        rows, columns = (_averages(int(side), wanted).to(images) for side, wanted in sides)
        return rows @ images @ columns.T


def _averages(side: int, wanted: int | None) -> Tensor:
    """What of ``side`` places each of ``wanted`` is the mean of (wanted, side)."""
    wanted = side if wanted is None else wanted
    weights = torch.zeros(wanted, side)
    for place in range(wanted):
        first, last = place * side // wanted, -(-(place + 1) * side // wanted)
        weights[place, first:last] = 1 / (last - first)
    return weights


class Scanned(nn.Module):
    """A recurrent layer of one direction as a loop over time, for ``torch.export``.

    It unrolls torch's own to the length of the example; a scan stays one, for sequences of any
    length. Vectors (batch, time, features) become states (batch, time, hidden_size), beside which
    there is nothing where torch's layer has its last state.
    """

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        assert layer.num_layers == 1 and not layer.bidirectional and layer.batch_first
        self.size, self.mode = layer.hidden_size, layer.mode
        for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"):
            weight = getattr(layer, name)
            self.register_buffer(name.removesuffix("_l0"), weight.detach())

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor
    bias_hh: Tensor

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        """The states after each step."""
        from torch._higher_order_ops.scan import scan

        read = functional.linear(inputs, self.weight_ih, self.bias_ih).transpose(0, 1)
        weight, bias = self.weight_hh, self.bias_hh

        def lstm(carried: tuple[Tensor, ...], step: Tensor) -> Step:
            state, cell = carried
            gates = step + functional.linear(state, weight, bias)
            add, keep, new, tell = gates.chunk(4, 1)
            cell = keep.sigmoid() * cell + add.sigmoid() * new.tanh()
            state = tell.sigmoid() * cell.tanh()
            return (state, cell), state.clone()

        def gru(carried: tuple[Tensor, ...], step: Tensor) -> Step:
            (state,) = carried
            carry = functional.linear(state, weight, bias).chunk(3, 1)
            inner = step.chunk(3, 1)
            reset, keep = (inner[0] + carry[0]).sigmoid(), (inner[1] + carry[1]).sigmoid()
            new = (inner[2] + reset * carry[2]).tanh()
            state = new + keep * (state - new)
            return (state,), state.clone()

        def rnn(carried: tuple[Tensor, ...], step: Tensor) -> Step:
            values = step + functional.linear(carried[0], weight, bias)
            state = values.tanh() if self.mode == "RNN_TANH" else values.relu()
            return (state,), state.clone()

        start = inputs.new_zeros(inputs.shape[0], self.size)
        step: Callable[[tuple[Tensor, ...], Tensor], Step] = rnn
        carried: tuple[Tensor, ...] = (start,)
        if self.mode == "LSTM":
            step, carried = lstm, (start, start.clone())
        elif self.mode == "GRU":
            step = gru
        _, states = scan(step, carried, read, dim=0)
        return states.transpose(0, 1), None
