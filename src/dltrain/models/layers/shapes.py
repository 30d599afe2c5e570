"""What every network for images must know of the images' size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

SMALLEST = {"alexnet_small": 15, "cnn": 4, "lenet5": 1}
"""Networks for small images, as their files have them, and how many pixels a side they need."""
LARGEST_SIDE = 2**16
"""Pixels; larger images are of no data set."""


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


def _needed(side: int, reads: Callable[[int], bool]) -> int:
    """The least side above ``side`` that is read; ValueError where no image is so large."""
    low, high = side, 2 * side
    while not reads(high):
        low, high = high, 2 * high
        if low > LARGEST_SIDE:
            raise ValueError(f"of {low:,} pixels a side nothing is left: pool less, or less often")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reads(middle) else (middle, high)
    return high


def refuse_small(
    input_shape: Sequence[int],
    reads: Callable[[int], bool],
    hint: str = "",
    own: Sequence[str] = (),
) -> None:
    """Raise ValueError for images of which nothing would be left.

    ``reads`` says whether something is left of so many pixels. ``hint`` is what may be changed in
    the network; ``own`` are names of networks that are not to be advised, for it may be of them.
    """
    side = min(input_shape[1:])
    if reads(side):
        return
    needed = _needed(side, reads)
    other = next(name for name, least in SMALLEST.items() if least <= side and name not in own)
    raise ValueError(
        f"images of {'x'.join(map(str, input_shape))} are too small: this network needs {needed} "
        f"pixels a side. model={other} reads them{hint}; image_folder and hub enlarge them by "
        f"data.size={needed}"
    )
