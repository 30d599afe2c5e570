"""torchvision's classifiers, adapted to the data's images and classes."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import DataSpec
from dltrain.contracts.paths import InitialWeights
from dltrain.models.layers.shapes import image_shape
from dltrain.models.vision.transfer import (
    Freezable,
    Normalized,
    read_torchvision,
    take_named,
    warn_of_other_pixels,
)

SMALL = 64
RENAMED = re.compile(r"\.(norm|conv)\.([12])\.")
"""How DenseNet's file calls what its network calls ``norm1`` and the like."""


class ResNet18(Freezable):
    """ResNet-18 (He et al. 2016): (batch, c, h, w) to logits (batch, outputs).

    Images with a side below 64 would come to its first stage as a few pixels. For them the
    stem is 3x3 in steps of 1 and has no max-pooling, as in that paper's networks for CIFAR-10
    (section 4.2); on 32x32x3 and ten classes it then has 11,173,962 parameters. ``pretrained`` are
    torchvision's weights, true or a file of them, for the larger stem. ``freeze`` names parts that
    are kept as they are, such as ``network.layer1``.

    Raises ValueError for what is no image, and for weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        pretrained: bool | InitialWeights | None = None,
        freeze: Sequence[str] = (),
        spec: DataSpec | None = None,
    ) -> None:
        channels, sides = image_shape("ResNet-18", input_shape)  # before a second's import
        # A network that is only tried is made on torch's meta device. torch before 2.7 cannot be
        # imported further there, as torchvision's first import does.
        with torch.device("cpu"):
            from torchvision.models import resnet18

        super().__init__()
        self.network = resnet18(num_classes=outputs)
        if min(sides) < SMALL:
            stem = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
            self.network.maxpool = nn.Identity()
        else:
            stem = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
        self.network.conv1 = stem
        if pretrained:
            _begin(self.network, "resnet18", pretrained, spec)
        self.freeze(freeze)

    def forward(self, images: Tensor) -> Tensor:
        """Classify the images."""
        return self.network(images)


class TorchvisionClassifier(Freezable):
    """A classifier of torchvision by its name there: (batch, c, h, w) to logits (batch, outputs).

    Its first convolution takes as many channels as the images have, its last layer gives as
    many logits as there are classes, and a network built for one size of images is built for
    theirs. Auxiliary classifiers are left out. ``pretrained`` are torchvision's weights: true, the
    newest, downloaded once, or a file of them; with other than 1000 classes the last layer begins
    anew. ``freeze`` names parts that are kept as they are, such as ``network.features``.

    Raises ValueError for a name that torchvision does not know, for what is no image, for images of
    a size that the network cannot read, and for weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        name: str,
        input_shape: Sequence[int],
        outputs: int,
        pretrained: bool | InitialWeights | None = None,
        freeze: Sequence[str] = (),
        spec: DataSpec | None = None,
    ) -> None:
        channels, sides = image_shape(name, input_shape)
        with torch.device("cpu"):  # as in ResNet18
            from torchvision import models

        super().__init__()
        known = models.list_models(module=models)
        if name not in known:
            hint = did_you_mean(name, known) or f"There are {', '.join(known)}."
            raise ValueError(f"name: torchvision has no classifier {name!r}. {hint}")
        builder = models.get_model_builder(name)
        settings = {"num_classes": outputs, **_adaptations(builder, sides, bool(pretrained))}
        try:
            self.network = with_channels(builder(**settings), channels)
            _try(self.network, input_shape)
        except (AssertionError, RuntimeError, ValueError) as error:
            size = "x".join(map(str, input_shape))
            raise ValueError(
                f"{name} cannot read images of {size}: {error}. model=cnn or lenet5 read small "
                "images; image_folder and hub enlarge them by data.size"
            ) from error
        if pretrained:
            _begin(self.network, name, pretrained, spec)
        self.freeze(freeze)

    def forward(self, images: Tensor) -> Tensor:
        """Classify the images."""
        return self.network(images)


def _begin(network: nn.Module, name: str, pretrained: bool | str, spec: DataSpec | None) -> None:
    """Take torchvision's weights of its network ``name``."""
    from torchvision.models import get_model_weights

    newest = get_model_weights(name)["DEFAULT"]
    read = newest.transforms()
    weights = {
        # torchvision renames those of its older files as it reads them, too.
        RENAMED.sub(r".\1\2.", tensor_name): tensor
        for tensor_name, tensor in read_torchvision(name, pretrained).items()
    }
    source = newest.url if pretrained is True else str(pretrained)
    hint = f"They fit {name} on images of data.channels=3 data.size={read.crop_size[0]}."
    take_named(network, weights, source, hint)
    warn_of_other_pixels(spec, Normalized(read.mean, read.std))


def _adaptations(
    builder: Callable[..., nn.Module], sides: Sequence[int], pretrained: bool
) -> dict[str, Any]:
    """What the network of ``builder`` can be told of the images, and of what to leave out."""
    wanted = {
        # Weights of GoogLeNet's family were trained on pixels that the network normalizes again.
        "transform_input": pretrained,
        "aux_logits": False,
        "image_size": sides[0],
        "init_weights": True,
        "input_size": tuple(sides),
    }
    network = typing.get_type_hints(builder)["return"]
    taken = inspect.signature(network).parameters
    return {name: value for name, value in wanted.items() if name in taken}


def with_channels(network: nn.Module, channels: int) -> nn.Module:
    """Let the first convolution of ``network`` read ``channels`` planes instead of three."""
    path, stem = next((n, m) for n, m in network.named_modules() if isinstance(m, nn.Conv2d))
    if stem.in_channels != channels:
        parent, _, name = path.rpartition(".")
        fresh = nn.Conv2d(
            channels,
            stem.out_channels,
            stem.kernel_size,  # type: ignore[arg-type]
            stem.stride,  # type: ignore[arg-type]
            stem.padding,  # type: ignore[arg-type]
            bias=stem.bias is not None,
        )
        setattr(network.get_submodule(parent), name, fresh)
    return network


def _try(network: nn.Module, input_shape: Sequence[int]) -> None:
    """See that the sizes agree, without arithmetic; what the network raises is passed on."""
    weights = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    shapes = {name: tensor.to("meta") for name, tensor in weights.items()}
    image = torch.empty(1, *input_shape, device="meta")
    torch.func.functional_call(network.eval(), shapes, (image,))
    network.train()
