"""VGG-19 as what sees content and style in an image: its layers' outputs by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.errors import UserError
from dltrain.tensor_files import read_tensors, reason

BLOCKS = (2, 2, 4, 4, 4)
"""Convolutions between two poolings of VGG-19."""
WIDTHS = (64, 128, 256, 512, 512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's weights."""
TORCHVISION = "vgg19"


class LayerOutputs(nn.Module):
    """``layers`` in order, some of which have names; images (n, 3, h, w) of 0..1 go in.

    Raises :class:`UserError` for images of which a single row or column is left on the way.
    """

    def __init__(self, layers: list[tuple[str, nn.Module]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layer for _, layer in layers)
        self.names = [name for name, _ in layers]

    def forward(self, images: Tensor, wanted: Collection[str]) -> dict[str, Tensor]:
        """The outputs of the layers ``wanted``, by name; what comes after them is not computed."""
        found: dict[str, Tensor] = {}
        values = images
        for name, layer in zip(self.names, self.layers, strict=True):
            if len(found) == len(wanted):
                break
            try:
                values = layer(values)
            except RuntimeError as error:
                height, width = values.shape[-2:]
                if min(height, width) > 1:
                    raise
                raise UserError(
                    f"an image of {images.shape[-1]}x{images.shape[-2]} pixels is too small: of "
                    f"these, {width}x{height} are left before {', '.join(wanted)}. Take a larger "
                    "image, or larger model.scales."
                ) from error
            if name in wanted:
                found[name] = values
        return found


def vgg19(source: str) -> LayerOutputs:
    """VGG-19 with torchvision's weights for ImageNet (``vgg19``), or those of a file.

    The file has tensors by the places of a ``Sequential``, as released with Li et al. 2017: a
    1x1 convolution for the normalization, each other convolution behind reflection padding, as many
    of them as there are tensors for. Layers are ``relu1_1``, ``relu1_2``, ``relu2_1`` and so on.
    Raises :class:`UserError` where it cannot be had or is something else.
    """
    return _of_torchvision() if source == TORCHVISION else _of_file(Path(source).expanduser())


def _of_torchvision() -> LayerOutputs:
    from torchvision.models import VGG19_Weights
    from torchvision.models import vgg19 as network

    try:
        trained = network(weights=VGG19_Weights.IMAGENET1K_V1).features
    except OSError as error:
        raise UserError(
            f"features: torchvision's weights cannot be downloaded: {error}. Give a file of "
            "VGG-19, or a run, by task.features=PATH."
        ) from error
    names = iter(_names())
    layers: list[tuple[str, nn.Module]] = [("", Normalize())]
    for layer in trained:
        if isinstance(layer, nn.ReLU):
            layers.append((next(names), nn.ReLU()))  # its own would overwrite what is before it
        else:
            layers.append(("", layer))
    return LayerOutputs(layers)


class Normalize(nn.Module):
    """Images of 0..1 as torchvision's networks read them."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, values in (("mean", MEAN), ("std", STD)):
            column = torch.tensor(values)[:, None, None]
            self.register_buffer(name, column, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """To mean 0 and std 1."""
        return (images - self.mean) / self.std


def _of_file(path: Path) -> LayerOutputs:
    try:
        content: Any = read_tensors(path)
    except (OSError, MemoryError):
        raise UserError(f"features: {path} does not exist, or cannot be read") from None
    except Exception as error:  # whatever a damaged file makes of it
        raise UserError(f"features: {path} is no file of tensors: {reason(error)}") from error
    if not isinstance(content, Mapping) or not all(map(torch.is_tensor, content.values())):
        raise UserError(f"features: {path} holds something else than tensors by name")
    names = _names()
    network = as_far_as(names[-1])
    places = [place for place in convolutions(network) if f"{place}.weight" in content]
    network = as_far_as(names[max(0, len(places) - 2)])  # the first is the normalization
    own = parameters(network)
    fits = set(own) == set(content) and all(own[n].shape == content[n].shape for n in own)
    if len(places) < 2 or not fits:
        raise UserError(f"features: {path} is not of VGG-19 as released with Li et al. 2017")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(content[name])
    return network


def as_far_as(last: str) -> LayerOutputs:
    """VGG-19 as released with Li et al. 2017, without weights, and without what is after ``last``.

    Raises ValueError where there is no such layer.
    """
    if last not in _names():
        raise ValueError(f"there is no layer {last!r}; VGG-19 has {', '.join(_names())}")
    layers: list[tuple[str, nn.Module]] = [("", nn.Conv2d(3, 3, 1))]
    names, before = iter(_names()), 3
    for block, (count, width) in enumerate(zip(BLOCKS, WIDTHS, strict=True)):
        if block:
            layers.append(("", nn.MaxPool2d(2, 2, ceil_mode=True)))
        for _ in range(count):
            convolution, name = nn.Conv2d(before, width, 3), next(names)
            layers += [("", nn.ReflectionPad2d(1)), ("", convolution), (name, nn.ReLU())]
            before = width
            if name == last:
                return LayerOutputs(layers)
    raise AssertionError(last)


def convolutions(network: LayerOutputs) -> list[int]:
    """The places of its convolutions, that for the normalization first."""
    return [place for place, one in enumerate(network.layers) if isinstance(one, nn.Conv2d)]


def parameters(network: LayerOutputs) -> dict[str, Tensor]:
    """Weights and biases of its convolutions by place, such as ``2.weight``."""
    return {
        f"{place}.{name}": tensor
        for place in convolutions(network)
        for name, tensor in network.layers[place].named_parameters()
    }


def _names() -> list[str]:
    return [
        f"relu{block}_{number}"
        for block, count in enumerate(BLOCKS, 1)
        for number in range(1, count + 1)
    ]
