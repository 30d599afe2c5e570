"""An average of a network's weights over training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class WeightAverage(nn.Module):
    """The exponential moving average of a network's weights and running statistics.

    What it holds are buffers, no parameters, so that nothing trains or counts them. ``decay`` is
    reached only after a while, or the average would long remember how the network began: after
    ``n`` updates it is at most (1 + n) / (10 + n).

    Raises ValueError for a decay outside 0 to below 1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"average is a decay from 0 to below 1, got {decay}")
        self.decay = decay
        for name, value in _averaged(network).items():
            self.register_buffer(_buffer(name), value.clone())

    @torch.no_grad()
    def update(self, network: nn.Module, updates: int) -> None:
        """Move towards ``network``, for the time number ``updates`` from 1 on."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        now = list(_averaged(network).values())
        torch._foreach_lerp_(list(self.buffers()), now, 1 - decay)

    def call(self, network: nn.Module, *arguments: Any) -> Tensor:
        """What ``network`` would answer with the averages in the place of its own values."""
        averages = {name: getattr(self, _buffer(name)) for name in _averaged(network)}
        return functional_call(network, averages, arguments)


def _averaged(network: nn.Module) -> dict[str, Tensor]:
    """Everything of a network that an average makes sense of, by name."""
    named = (*network.named_parameters(), *network.named_buffers())
    return {name: value.detach() for name, value in named if value.is_floating_point()}


def _buffer(name: str) -> str:
    """A buffer's name cannot have dots."""
    return name.replace(".", "/")
