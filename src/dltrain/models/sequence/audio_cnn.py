"""A convolutional network over spectrograms: which of several classes a sound is."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_fraction, require_units
from dltrain.models.layers.frames import FrameBlock
from dltrain.models.sequence.sequences import frame_size, real_steps

MOST_POOLED = 64
"""Frames that become one at most."""


class AudioCNN(nn.Module):
    """Frames (batch, time, features) and their lengths (batch,) to logits (batch, outputs).

    A spectrogram is read as an image: a block of 3x3 convolution, batch norm, ReLU and 2x2 max
    pooling for each of ``channels``, as VGG has them (Hershey et al. 2017). Then the mean and the
    maximum over what is left of time and features, dropout, and a dense layer. What it says of a
    sound does not depend on what it is batched with.

    Raises ValueError for inputs that are no frames, and for more blocks than can be pooled.
    """

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        channels: Sequence[int] = (32, 64, 128, 128),
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        require_units(channels=channels)
        require_fraction(dropout=dropout)
        if not channels or 2 ** len(channels) > MOST_POOLED:
            most = MOST_POOLED.bit_length() - 1
            raise ValueError(f"channels has one to {most} blocks, got {list(channels)}")
        frame_size(spec.input)
        widths = pairwise([1, *channels])
        self.blocks = nn.ModuleList(FrameBlock(before, after, 2, 2) for before, after in widths)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * channels[-1], outputs)

    def forward(self, frames: Tensor, lengths: Tensor) -> Tensor:
        """Read whole sounds."""
        maps = frames[:, None]
        for block in self.blocks:
            maps, lengths = block(maps, lengths)
        most = maps.amax((2, 3))  # padding is 0, and nothing is below
        real = real_steps(maps.transpose(1, 2), lengths)
        count = real.sum(1, keepdim=True) * maps.shape[3]
        mean = maps.sum((2, 3)) / count
        return self.output(self.dropout(torch.cat([mean, most], 1)))
