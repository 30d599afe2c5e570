"""Quantization-aware training: the network learns with the rounding of 8-bit integers in place."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.run import Modifier
from dltrain.contracts.task import Task

logger = logging.getLogger(__name__)

LEVELS = 255
"""Steps of an 8-bit number."""
LARGEST = 127
"""Of a signed one, as weights are."""


class Quantize(Modifier):
    """Train dense layers and convolutions as 8-bit integers will compute them (Jacob et al. 2018).

    In the forward pass weights are rounded to 255 levels for each output, symmetric around 0, and a
    layer's inputs to 256 levels between the least and the greatest that was seen in training: an
    average over batches that moves by ``momentum``. Gradients pass through the rounding where a
    value is within the range. Evaluations, checkpoints and predictions are of the rounded network;
    ``dltrain export RUN --int8`` writes it as integers. Other layers stay as they are, which is
    told.

    Raises ValueError for a momentum outside 0 to 1, and where there is no such layer.
    """

    replayable = False

    def __init__(self, momentum: float = 0.01) -> None:
        if not 0 < momentum <= 1:
            raise ValueError(f"momentum must be above 0 and at most 1, got {momentum}")
        self.momentum = momentum

    def attach(self, task: Task) -> None:
        """Have the layers round."""
        layers = [layer for layer in task.modules() if type(layer) in _ROUNDED]
        if not layers:
            raise ValueError("the network has no dense layer and no convolution to quantize")
        others = Counter(
            type(layer).__name__
            for layer in task.modules()
            if type(layer) not in _ROUNDED
            and any(p.ndim > 1 for p in layer.parameters(recurse=False))
        )
        if others:
            named = ", ".join(f"{count} {name}" for name, count in others.items())
            logger.warning("quantize: these stay in floating point: %s.", named)
        for layer in layers:
            rounded: Any = layer
            rounded.__class__ = _ROUNDED[type(layer)]
            rounded.begin(self.momentum)

    def finish(self, task: Task) -> None:
        """The weights become what they were rounded to."""
        for layer in task.modules():
            if isinstance(layer, Rounded):
                with torch.no_grad():
                    layer.weight.copy_(layer.rounded_weight())
                layer.on_levels = True


class Rounded(nn.Module):
    """What a layer with a ``weight`` rounds; see :class:`Quantize`."""

    weight: Tensor
    input_low: Tensor
    input_high: Tensor
    batches_seen: Tensor

    def begin(self, momentum: float) -> None:
        """Know no range yet."""
        self.momentum, self.on_levels = momentum, False
        for name in ("input_low", "input_high"):
            self.register_buffer(name, torch.zeros((), device=self.weight.device))
        seen = torch.zeros((), dtype=torch.int64, device=self.weight.device)
        self.register_buffer("batches_seen", seen)

    def rounded_weight(self) -> Tensor:
        """The weight on its 255 levels, with gradients."""
        if self.on_levels:
            return self.weight
        weight = self.weight.float()
        largest = weight.detach().flatten(1).abs().amax(1)
        scale = (largest / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
        zero = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -LARGEST, LARGEST)

    def rounded_input(self, inputs: Tensor) -> Tensor:
        """``inputs`` (…) on 256 levels of the range; as they are while nothing was seen."""
        values = inputs.float()
        if self.training:
            self._see(values.detach())
        scale = ((self.input_high - self.input_low) / LEVELS).clamp_min(1e-12)
        zero = (-self.input_low / scale).round().clamp(0, LEVELS).to(torch.int32)
        rounded = torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, LEVELS)
        return torch.where(self.batches_seen > 0, rounded, values)

    @torch.no_grad()
    def _see(self, values: Tensor) -> None:
        # At first a mean, so that the range of an untrained network is soon forgotten.
        self.batches_seen += 1
        rate = (1 / self.batches_seen).clamp_min(self.momentum)
        self.input_low.lerp_(values.amin().clamp_max(0), rate)
        self.input_high.lerp_(values.amax().clamp_min(0), rate)


class RoundedLinear(Rounded, nn.Linear):
    """A dense layer that rounds."""

    def forward(self, inputs: Tensor) -> Tensor:
        """As of the layer."""
        return functional.linear(self.rounded_input(inputs), self.rounded_weight(), self.bias)


class RoundedConv1d(Rounded, nn.Conv1d):
    """A convolution over sequences that rounds."""

    def forward(self, inputs: Tensor) -> Tensor:
        """As of the layer."""
        return self._conv_forward(self.rounded_input(inputs), self.rounded_weight(), self.bias)


class RoundedConv2d(Rounded, nn.Conv2d):
    """A convolution over images that rounds."""

    def forward(self, inputs: Tensor) -> Tensor:
        """As of the layer."""
        return self._conv_forward(self.rounded_input(inputs), self.rounded_weight(), self.bias)


_ROUNDED: dict[type[nn.Module], type[Rounded]] = {
    nn.Linear: RoundedLinear,
    nn.Conv1d: RoundedConv1d,
    nn.Conv2d: RoundedConv2d,
}


@contextmanager
def in_floating_point(task: nn.Module) -> Iterator[None]:
    """While inside, the layers of a loaded ``task`` are of the kinds that they were made of."""
    kinds = {rounded: plain for plain, rounded in _ROUNDED.items()}
    layers: list[Any] = [layer for layer in task.modules() if type(layer) in kinds]
    for layer in layers:
        layer.__class__ = kinds[type(layer)]
    try:
        yield
    finally:
        for layer in layers:
            layer.__class__ = _ROUNDED[type(layer)]
