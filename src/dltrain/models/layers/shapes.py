"""What every network for images must know of the images' size."""

from __future__ import annotations

from collections.abc import Sequence


def image_shape(name: str, input_shape: Sequence[int]) -> tuple[int, list[int]]:
    """Split ``input_shape`` into channels and sides, (height, width).

    Raises ValueError, in the name of the network ``name``, for what is no image.
    """
    if len(input_shape) != 3:
        raise ValueError(
            f"{name} reads images (channels, height, width); "
            f"this data gives examples of shape {tuple(input_shape)}"
        )
    channels, *sides = input_shape
    return channels, sides


def swept(sides: Sequence[int], kernel: int, stride: int = 1, padding: int = 0) -> list[int]:
    """The sides that are left after a kernel has swept over the padded image."""
    return [(side + 2 * padding - kernel) // stride + 1 for side in sides]
