"""A network that says for each moment of a sound which letter is spoken."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.errors import require_fraction, require_units
from dltrain.models.layers.frames import FrameBlock
from dltrain.models.sequence.recurrent import mirror, reorder
from dltrain.models.sequence.sequences import frame_size, real_steps

REDUCTIONS = (1, 2, 4, 8)


class Transcriber(nn.Module):
    """Frames (batch, time, features) and lengths (batch,) to logits (batch, steps, outputs).

    Blocks of convolution over time and frequency, one for each of ``channels``, then ``layers`` of
    bidirectional LSTMs of ``hidden_size`` units a direction, as Deep Speech 2 has them (Amodei et
    al. 2016, section 3), and a dense layer at each step. The blocks pool the features by 2, the
    first of them time too, so that ``reduction`` frames become one step. With ``layers=0`` the
    convolutions stand alone: the answer for a moment depends on its surroundings, and on nothing
    that was spoken long before or after.

    Raises ValueError for inputs that are no frames, and for a reduction that the blocks cannot do.
    """

    def __init__(
        self,
        spec: DataSpec,
        outputs: int,
        channels: Sequence[int] = (32, 64),
        hidden_size: int = 128,
        layers: int = 2,
        reduction: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        require_units(channels=channels)
        require_fraction(dropout=dropout)
        if hidden_size < 1 or layers < 0:
            raise ValueError(
                f"hidden_size is at least 1 and layers at least 0, got {hidden_size} and {layers}"
            )
        allowed = [one for one in REDUCTIONS if one <= 2 ** len(channels)]
        if reduction not in allowed or not channels:
            raise ValueError(
                f"reduction must be one of {allowed} with {len(channels)} blocks, got {reduction}"
            )
        size = frame_size(spec.input)
        halvings = reduction.bit_length() - 1
        self.blocks = nn.ModuleList(
            FrameBlock(before, after, 2 if number < halvings else 1, 2)
            for number, (before, after) in enumerate(pairwise([1, *channels]))
        )
        for _ in channels:
            size = -(-size // 2)
        self.dropout = nn.Dropout(dropout)
        widths = [size * channels[-1], *[2 * hidden_size] * layers]
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.LSTM(width, hidden_size, batch_first=True) for _ in range(2))
            for width in widths[:-1]
        )
        self.output = nn.Linear(widths[-1], outputs)

    def forward(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of each step, and how many of them are real (batch,)."""
        maps = frames[:, None]
        for block in self.blocks:
            maps, lengths = block(maps, lengths)
        states = maps.transpose(1, 2).flatten(2)
        mirrored = mirror(real_steps(states, lengths))
        for directions in self.layers:
            forwards, backwards = cast(nn.ModuleList, directions)
            states = self.dropout(states)
            back = reorder(backwards(reorder(states, mirrored))[0], mirrored)
            states = torch.cat([forwards(states)[0], back], 2)
        return self.output(self.dropout(states)), lengths
