"""SegNet: the way up puts values back where the way down found the largest."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from dltrain.contracts.data import DataSpec
from dltrain.models.layers.init import initialize
from dltrain.models.layers.shapes import segmented


class SegNet(nn.Module):
    """SegNet (Badrinarayanan et al. 2017): (batch, c, h, w) to logits (batch, k, h, w).

    Each entry of ``channels`` is a stage down: so many ``convolutions`` of 3x3, each with batch
    norm and ReLU, then a pooling that remembers where each maximum was. The stages up mirror them;
    each begins by putting its inputs to those places, with 0 elsewhere. As it stands, the network
    of the paper, whose stages down are those of VGG-16. ``dropout`` is behind the inner stages
    (Bayesian SegNet, Kendall et al. 2017).

    Images may have any size of at least ``2 ** len(channels)`` pixels. Raises ValueError for data
    without masks.
    """

    def __init__(
        self,
        spec: DataSpec,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        convolutions: Sequence[int] = (2, 2, 3, 3, 3),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        planes, classes = segmented("SegNet", spec)
        if not channels or min(channels) < 1:
            raise ValueError(f"channels is at least 1 for each stage, got {list(channels)}")
        if len(convolutions) != len(channels) or min(convolutions) < 1:
            raise ValueError(
                f"convolutions is a number for each of {len(channels)} stages, got "
                f"{list(convolutions)}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a probability below 1, got {dropout}")
        sizes = [planes, *channels]
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.dropout = nn.Dropout(dropout)
        self.down = nn.ModuleList(
            _stage([inside, *[outside] * number])
            for (inside, outside), number in zip(pairwise(sizes), convolutions, strict=True)
        )
        sizes[0] = channels[0]
        self.up = nn.ModuleList(
            _stage([*[outside] * number, inside])
            for (inside, outside), number in zip(pairwise(sizes), convolutions, strict=True)
        )
        self.last = nn.Conv2d(channels[0], classes, 3, padding=1)
        initialize(self, "kaiming")

    def forward(self, images: Tensor) -> Tensor:
        """Logits of each pixel."""
        maps, places, shapes = images, [], []
        for step, stage in enumerate(self.down):
            maps = stage(maps)
            shapes.append(maps.shape)
            maps, found = self.pool(maps)
            places.append(found)
            if 2 * step >= len(self.down):
                maps = self.dropout(maps)
        for step, stage in reversed(list(enumerate(self.up))):
            maps = stage(unpooled(maps, places.pop(), shapes.pop()))
            if 2 * step >= len(self.up):
                maps = self.dropout(maps)
        logits: Tensor = self.last(maps)
        return logits


def unpooled(maps: Tensor, places: Tensor, shape: Sequence[int]) -> Tensor:
    """Maps of ``shape`` that have the values of ``maps`` at ``places``, and 0 elsewhere.

    The same as :func:`torch.nn.functional.max_unpool2d`, which is neither deterministic on CUDA
    nor known to ONNX.
    """
    batch, channels, height, width = shape
    flat = maps.new_zeros(batch, channels, height * width)
    return flat.scatter(2, places.flatten(2), maps.flatten(2)).view(batch, channels, height, width)


def _stage(sizes: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inside, outside in pairwise(sizes):
        convolution = nn.Conv2d(inside, outside, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers)
