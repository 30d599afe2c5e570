"""New images in which something is to be found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dltrain.contracts.data import Batch
from dltrain.data.detection.placement import placement
from dltrain.data.images.reader import ImageReader


class DetectionReader(ImageReader):
    """As its parent; beside the images come their sizes, and where they lie in the input."""

    def read(self, examples: Sequence[Any]) -> Batch:
        """``input`` (batch, channels, height, width), ``image_size`` (2), ``placement`` (4)."""
        pixels, sizes, placements = [], [], []
        for one, opened in self.decoded(examples):
            width, height = opened.image.size
            pixels.append(one)
            sizes.append((height, width))
            placements.append(placement(width, height, self.shape))
        return {
            "input": self.inputs(pixels),
            "image_size": torch.tensor(sizes),
            "placement": torch.tensor(placements, dtype=torch.float32),
        }
