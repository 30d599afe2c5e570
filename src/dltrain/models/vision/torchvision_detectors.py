"""torchvision's detectors, adapted to the data's images and classes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import DataSpec
from dltrain.models.layers.denormalize import Pixels
from dltrain.models.vision.yolo import channels_and_classes

KINDS = ("fasterrcnn", "fcos", "retinanet", "ssd", "ssdlite")
"""How the names of detectors of boxes begin; others of torchvision find masks or keypoints."""


class TorchvisionDetector(nn.Module):
    """A detector of torchvision by its name there, as it is: its anchors, its losses, its choice.

    Images (batch, c, h, w) as the data has them become values in 0..1, gray ones three channels,
    which the network normalizes by ImageNet's mean and std. It takes them at the size that they
    have, but for ssd and ssdlite, which make all 300x300 or 320x320. Classes count from 1 there; 0
    is the background. The weights begin at random; ``init_from`` of a run takes those of a file.

    Raises ValueError for a name that torchvision does not know, and for data without boxes.
    """

    def __init__(self, name: str, spec: DataSpec) -> None:
        channels, classes = channels_and_classes(spec)  # before a second's import
        with torch.device("cpu"):  # as in ResNet18
            from torchvision import models

        super().__init__()
        known = [
            one for one in models.list_models(module=models.detection) if one.startswith(KINDS)
        ]
        if name not in known:
            hint = did_you_mean(name, known) or f"There are {', '.join(known)}."
            raise ValueError(f"name: torchvision has no detector {name!r}. {hint}")
        if channels not in (1, 3):
            raise ValueError(f"{name} reads 1 or 3 channels, got {channels}")
        height, width = spec.input.shape[1:]
        assert height and width, "they are known once the data is read"
        settings: dict[str, Any] = {"weights": None, "weights_backbone": None}
        if not name.startswith("ssd"):
            settings |= {"min_size": min(height, width), "max_size": max(height, width)}
        builder = models.get_model_builder(name)
        self.network = builder(num_classes=classes + 1, **settings)
        self.pixels = Pixels(spec.input)

    def limit(self, lowest: float, most: int) -> None:
        """Give boxes of scores above ``lowest``, ``most`` an image."""
        chooses = getattr(self.network, "roi_heads", self.network)
        chooses.score_thresh, chooses.detections_per_img = lowest, most

    def forward(
        self, images: Tensor, targets: list[dict[str, Tensor]] | None = None
    ) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Losses by name in training, else of each image ``boxes``, ``labels`` and ``scores``."""
        shown = self.pixels.shown(images)
        return self.network(list(shown.expand(-1, 3, -1, -1)), targets)
