"""torchvision's networks that say of each pixel what it is, with their auxiliary loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import DataSpec
from dltrain.contracts.paths import InitialWeights
from dltrain.models.layers.shapes import segmented
from dltrain.models.vision.torchvision_networks import with_channels
from dltrain.models.vision.transfer import (
    Freezable,
    Normalized,
    read_torchvision,
    take_named,
    warn_of_other_pixels,
)

IMAGENET = Normalized((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HEAD = ("fc.", "classifier.")
"""Tensors of a classifier that a backbone has not."""


class TorchvisionSegmenter(Freezable):
    """A segmentation network of torchvision by its name: (batch, c, h, w) to (batch, k, h, w).

    ``auxiliary`` adds torchvision's second classifier, behind the last stage but one, whose loss
    helps training and which is left out otherwise. ``backbone`` are ImageNet weights of the
    classifier that it is built on, true for torchvision's newest or a file of them; ``freeze``
    names parts that are kept as they are, such as ``network.backbone``.

    Raises ValueError for a name that torchvision does not know, for data without masks, and for
    weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        name: str,
        spec: DataSpec,
        auxiliary: bool = True,
        backbone: bool | InitialWeights | None = None,
        freeze: Sequence[str] = (),
    ) -> None:
        channels, classes = segmented(name, spec)  # before a second's import
        with torch.device("cpu"):  # as of torchvision's classifiers
            from torchvision import models
            from torchvision.models import segmentation

        super().__init__()
        known = models.list_models(module=segmentation)
        if name not in known:
            hint = did_you_mean(name, known) or f"There are {', '.join(known)}."
            raise ValueError(f"name: torchvision has no segmentation network {name!r}. {hint}")
        settings = {"weights_backbone": None, "num_classes": classes}
        if not name.startswith("lraspp"):
            settings["aux_loss"] = auxiliary
        network = models.get_model_builder(name)(**settings)
        if backbone:
            stem = name.partition("_")[2]
            weights = read_torchvision(stem, backbone)
            own = {n: tensor for n, tensor in weights.items() if not n.startswith(HEAD)}
            take_named(network.backbone, own, str(backbone), f"They are those of {stem}.")
            warn_of_other_pixels(spec, IMAGENET)
        self.network = with_channels(network, channels)
        self.auxiliary = auxiliary and not name.startswith("lraspp")
        self.freeze(freeze)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of each pixel."""
        return self.with_auxiliary(images)[0]

    def with_auxiliary(self, images: Tensor) -> list[Tensor]:
        """Logits of each pixel; behind them those of the auxiliary classifier, where there is one.

        That one is asked in training alone.
        """
        network: Any = self.network  # torch's types know of no such parts
        size = images.shape[-2:]
        if not hasattr(network, "aux_classifier"):  # LR-ASPP
            return [network(images)["out"]]
        features = network.backbone(images)
        heads = [(network.classifier, "out")]
        if self.auxiliary and self.training:
            heads.append((network.aux_classifier, "aux"))
        return [
            functional.interpolate(
                head(features[name]), size=size, mode="bilinear", align_corners=False
            )
            for head, name in heads
        ]
