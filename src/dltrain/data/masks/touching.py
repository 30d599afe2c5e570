"""The weight map that makes a network learn the narrow gaps between objects that touch."""

from __future__ import annotations

from typing import Any

import numpy as np


def touching_weights(
    objects: np.ndarray[Any, Any], weight: float, sigma: float
) -> np.ndarray[Any, Any]:
    """``weight`` times ``exp(-(d1 + d2)^2 / (2 sigma^2))`` of each pixel, float32.

    ``objects`` (height, width), bool, says where they are; each is what hangs together by its
    sides. ``d1`` and ``d2`` are the distances in pixels to the nearest and the second nearest of
    them. Pixels of objects have 0, and so has all of an image of less than two. That is the second
    term of Ronneberger, Fischer and Brox 2015, equation 2.
    """
    from scipy import ndimage  # type: ignore[import-untyped]

    labels, count = ndimage.label(objects)
    found = np.zeros(objects.shape, np.float32)
    if count < 2:
        return found
    nearest = np.full(objects.shape, np.inf, np.float32)
    second = nearest.copy()
    reach = int(np.ceil(6 * sigma))  # beyond it, the weight is below 1e-7 of the largest
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        window = tuple(
            slice(max(0, side.start - reach), min(size, side.stop + reach))
            for side, size in zip(box, objects.shape, strict=True)
        )
        distance = ndimage.distance_transform_edt(labels[window] != number).astype(np.float32)
        before = nearest[window]
        second[window] = np.minimum(second[window], np.maximum(before, distance))
        nearest[window] = np.minimum(before, distance)
    both = nearest + second
    known = np.isfinite(both) & ~objects
    found[known] = weight * np.exp(-(both[known] ** 2) / (2 * sigma**2))
    return found
