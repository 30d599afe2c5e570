"""A network that gives an image any style (Huang and Belongie 2017)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from dltrain.contracts.paths import InitialWeights
from dltrain.models.generative.transform_net import require_colors, require_size
from dltrain.models.vision.transfer import read_torchvision
from dltrain.models.vision.vgg_features import (
    MEAN,
    STD,
    LayerOutputs,
    as_far_as,
    convolutions,
    parameters,
)

EPSILON = 1e-5
"""Added to variances: a channel may see nothing."""


class AdaptiveStyle(nn.Module):
    """VGG-19 as far as ``layer``, and a decoder back to images (Huang and Belongie 2017).

    What the encoder sees of an image (n, 3, h, w) of 0..1 is given the mean and std of each channel
    that it sees of a style, and decoded. The encoder is frozen, the decoder its mirror image: a
    convolution for each of its, and pixels repeated where it pools. Borders are reflected.

    ``pretrained`` are the encoder's weights: torchvision's of ImageNet (true, downloaded), or a
    file of these or of VGG-19 as released with Li et al. 2017. Without them it has ``learned``
    nothing, until a checkpoint is loaded.

    Raises ValueError for other images than of three channels, for a layer that is not there, and
    for weights that cannot be had, or do not reach it.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        layer: str = "relu3_1",
        pretrained: bool | InitialWeights | None = None,
    ) -> None:
        super().__init__()
        require_colors(input_shape)
        try:
            self.encoder = as_far_as(layer)
        except ValueError as error:
            raise ValueError(f"layer: {error}") from error
        self.layer = layer
        if pretrained is False:
            raise ValueError("pretrained: an encoder that has learned nothing sees no style")
        self.learned: Tensor
        self.register_buffer("learned", torch.tensor(pretrained is not None))
        if pretrained is not None:
            self._take(pretrained)
        self.encoder.requires_grad_(False)
        self.decoder = nn.Sequential(*_mirrored(self.encoder.layers))

    def encode(self, images: Tensor, wanted: Collection[str] = ()) -> dict[str, Tensor]:
        """Features (n, c, h, w) of images of 0..1, of the layers ``wanted`` and of the last.

        Raises ValueError for images too small to be painted.
        """
        require_size(images.shape[2:])
        return self.encoder(images, {*wanted, self.layer})

    def decode(self, features: Tensor, size: Sequence[int]) -> Tensor:
        """Images of ``size`` (h, w), of features of the last layer; about 0..1."""
        images: Tensor = self.decoder(features)
        return images[..., : size[0], : size[1]]

    def forward(self, images: Tensor, style: Tensor | None = None) -> Tensor:
        """Images of the same size, in the style of an image (1, 3, h, w), or as they are."""
        features = self.encode(images)[self.layer]
        if style is not None:
            features = with_moments(features, *moments(self.encode(style)[self.layer]))
        return self.decode(features, images.shape[2:])

    @torch.no_grad()
    def _take(self, pretrained: bool | str) -> None:
        """Have these weights in the encoder."""
        named = read_torchvision("vgg19", pretrained)
        if "features.0.weight" in named:
            named = _of_torchvision(named, self.encoder)
        for name, own in parameters(self.encoder).items():
            if name not in named or named[name].shape != own.shape:
                raise ValueError(
                    f"pretrained: {'these' if pretrained is True else pretrained} are no weights "
                    f"of VGG-19 that reach layer={self.layer}"
                )
            own.copy_(named[name])


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and std (n, c) of each channel of features (n, c, h, w)."""
    flat = features.flatten(2)
    return flat.mean(2), (flat.var(2, correction=0) + EPSILON).sqrt()


def with_moments(features: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Features (n, c, h, w) with that mean and std (n, c), or (1, c), in each channel."""
    own_mean, own_std = (one[:, :, None, None] for one in moments(features))
    return (features - own_mean) / own_std * std[:, :, None, None] + mean[:, :, None, None]


def _mirrored(layers: nn.ModuleList) -> list[nn.Module]:
    """What undoes the encoder's layers, the last first; nothing of the normalization."""
    found: list[nn.Module] = []
    for layer in reversed(list(layers)):
        if isinstance(layer, nn.MaxPool2d):
            found.append(nn.Upsample(scale_factor=2))
        elif isinstance(layer, nn.Conv2d) and layer.kernel_size != (1, 1):
            found += [
                nn.ReflectionPad2d(1),
                nn.Conv2d(layer.out_channels, layer.in_channels, 3),
                nn.ReLU(),
            ]
    return found[:-1]  # pixels are not cut off at 0


def _of_torchvision(content: Mapping[str, Tensor], encoder: LayerOutputs) -> dict[str, Tensor]:
    """Torchvision's weights by our places; its normalization as a convolution."""
    theirs = sorted(
        int(name.split(".")[1])
        for name in content
        if name.startswith("features.") and name.endswith(".weight")
    )
    first, *places = convolutions(encoder)
    mean, std = torch.tensor(MEAN), torch.tensor(STD)
    found = {
        f"{first}.weight": torch.diag(1 / std)[:, :, None, None],
        f"{first}.bias": -mean / std,
    }
    for place, their in zip(places, theirs, strict=False):
        for kind in ("weight", "bias"):
            found[f"{place}.{kind}"] = content[f"features.{their}.{kind}"]
    return found
