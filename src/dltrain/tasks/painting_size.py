"""How large an image is painted."""

from __future__ import annotations

import logging

from torch import Tensor
from torch.nn import functional

from dltrain.errors import require_at_least

logger = logging.getLogger(__name__)

SMALLEST = 16
"""Pixels of an image's longer side."""


class PaintingSize:
    """Scales images down whose longer side has more than ``largest`` pixels, and says so once.

    Raises ValueError for fewer than 16.
    """

    def __init__(self, largest: int) -> None:
        require_at_least(SMALLEST, largest=largest)
        self.largest = largest
        self._told = False

    def limited(self, images: Tensor) -> Tensor:
        """Images (n, c, h, w) as they are, or smaller ones."""
        longer = max(images.shape[2:])
        if longer <= self.largest:
            return images
        if not self._told:
            logger.warning(
                "an image of %d pixels is painted with its longer side of %d (task.largest).",
                *(longer, self.largest),
            )
        self._told = True
        return functional.interpolate(
            images, scale_factor=self.largest / longer, mode="bilinear", antialias=True
        )
