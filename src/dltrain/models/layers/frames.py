"""Convolution over frames of sounds of different lengths, padded on the right."""

from __future__ import annotations

from torch import Tensor, nn

from dltrain.models.sequence.sequences import real_steps


class FrameBlock(nn.Module):
    """3x3 convolution, batch norm, ReLU and max pooling of maps (batch, channels, time, features).

    ``pool_time`` and ``pool_features`` are how many steps become one. What lies beyond a sound's
    end is 0 before and after, so that it says nothing that depends on the batch: the last pool of
    a sound may be over fewer steps. In training the statistics of batch norm count padding, which
    is little among sounds of about one length.
    """

    def __init__(self, inputs: int, outputs: int, pool_time: int, pool_features: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.normalization = nn.BatchNorm2d(outputs)
        self.pool = nn.MaxPool2d((pool_time, pool_features), ceil_mode=True)
        self.pool_time, self.pool_features = pool_time, pool_features

    def forward(self, maps: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The maps and how many of their steps are real (batch,)."""
        found = self.normalization(self.convolution(maps)).relu()
        found = self.pool(found * real_steps(found.transpose(1, 2), lengths)[:, None, :, None])
        return found, self.lengths(lengths)

    def lengths(self, lengths: Tensor) -> Tensor:
        """How many steps are left of ``lengths``."""
        return -(-lengths // self.pool_time)

    def features(self, size: int) -> int:
        """How many features are left of ``size``."""
        return -(-size // self.pool_features)
