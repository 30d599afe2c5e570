"""A network that learns small images in few epochs (Jordan 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.models.layers.shapes import image_shape, refuse_small

PATCH = 2
"""Side of the patches that are whitened."""
EPSILON = 5e-4
"""Added to their variances, of which some may be almost 0."""
MOMENTUM = 0.4
"""Weight of the latest batch in the norms' running statistics; more than usual, for short runs."""
HEAD = 1 / 9
"""What the logits are multiplied by."""


class Whitening(nn.Module):
    """Patches of images (batch, c, h, w) to uncorrelated numbers of variance 1, in both signs.

    Its filters are not learned. They are the eigenvectors of the patches' covariance over their
    standard deviations, as the first batch in training mode has them; only the biases are learned.
    Returns (batch, 2 * c * patch * patch, h - patch + 1, w - patch + 1).
    """

    def __init__(self, planes: int, patch: int = PATCH) -> None:
        super().__init__()
        self.conv = nn.Conv2d(planes, 2 * planes * patch**2, patch)
        self.conv.weight.requires_grad_(False)
        # On the host: whether to measure must be known without asking the device.
        self._measured = False

    def forward(self, images: Tensor) -> Tensor:
        """Whiten; the first time in training, find out how."""
        if self.training and not self._measured:
            self._measure(images)
        return self.conv(images)

    @torch.no_grad()
    def _measure(self, images: Tensor) -> None:
        kernel = self.conv.weight
        with torch.autocast(images.device.type, enabled=False):
            patches = functional.unfold(images.float(), kernel.shape[-1])
            patches = patches.transpose(1, 2).flatten(0, 1)
            variances, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
            filters = (vectors / (variances + EPSILON).sqrt()).T.reshape(-1, *kernel.shape[1:])
            kernel.copy_(torch.cat([filters, -filters]))
        self._measured = True

    def get_extra_state(self) -> Tensor:
        """Whether the filters are known; a tensor, as all of a state is."""
        return torch.tensor(self._measured)

    def set_extra_state(self, state: Tensor) -> None:
        """Take the filters that are loaded for known, or not."""
        self._measured = bool(state)


class Airbench(nn.Module):
    """Whitened patches, then blocks: (batch, c, h, w) to logits (batch, outputs).

    Each entry of ``channels`` is a block: convolution, max-pooling by 2, batch norm, GELU,
    convolution, batch norm, GELU. Convolutions begin as the identity as far as they can. The
    maximum of each map goes into one dense layer, whose logits are made small. With 64, 256, 256
    this is the network of airbench94 (Jordan 2024, section 3), but for its norms, which learn
    scales here.

    Raises ValueError for what is no image or too small a one, and for blocks without maps.
    """

    def __init__(
        self, input_shape: Sequence[int], outputs: int, channels: Sequence[int] = (64, 256, 256)
    ) -> None:
        super().__init__()
        if not channels or min(channels) < 1:
            raise ValueError(f"blocks have at least one map each, got {list(channels)}")
        planes, _ = image_shape("airbench", input_shape)
        halvings = 2 ** len(channels)
        hint = ", and so do fewer model.channels"
        refuse_small(input_shape, lambda side: side - PATCH + 1 >= halvings, hint)
        whitening = Whitening(planes)
        blocks: list[nn.Module] = [whitening, nn.GELU()]
        for before, after in pairwise([whitening.conv.out_channels, *channels]):
            blocks += _block(before, after)
        self.features = nn.Sequential(*blocks, nn.AdaptiveMaxPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(channels[-1], outputs, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Find features, and classify them."""
        return HEAD * self.classifier(self.features(images))


def _block(before: int, after: int) -> list[nn.Module]:
    first, second = (
        nn.Conv2d(planes, after, 3, padding="same", bias=False) for planes in (before, after)
    )
    for conv in (first, second):
        nn.init.dirac_(conv.weight[: conv.in_channels])
    return [
        first,
        nn.MaxPool2d(2),
        nn.BatchNorm2d(after, momentum=MOMENTUM),
        nn.GELU(),
        second,
        nn.BatchNorm2d(after, momentum=MOMENTUM),
        nn.GELU(),
    ]
