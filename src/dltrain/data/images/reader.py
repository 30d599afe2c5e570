"""New images."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import singledispatch
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Reader
from dltrain.contracts.preprocessing import Preprocessing, TensorSteps
from dltrain.data.images.decode import (
    Fit,
    Opened,
    Shape,
    UnreadableError,
    fitted,
    open_upright,
    upright,
)
from dltrain.data.images.listing import expanded, image_files
from dltrain.data.images.normalize import Normalize
from dltrain.data.images.wide import SIXTEEN, find_window
from dltrain.data.streams.reader import require_scale, several

logger = logging.getLogger(__name__)

MOST_PIXELS = 2**28
"""Of one image that a network reads: a gigabyte of float32 for each channel."""
MOSTLY_GRAY = (0.35, 0.65)
"""A mean of all training images between these does not tell drawings from negatives of them."""


class ImageReader(Reader):
    """Reads images of any size into ``channels`` x ``height`` x ``width``, as the run's were.

    An example is the path of a file, its content as bytes, a PIL image, or a uint8 array or
    tensor (height, width) or (height, width, channels), also uint16 (height, width). ``fit`` says
    how another shape gets there: crop, pad or stretch. ``window`` are the values of pixels of more
    than 8 bits that become black and white; null: 0 and 65535. Pixels in 0..1 are normalized by
    ``mean`` and ``std``.
    """

    example = "image"

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
        fit: Fit = "crop",
        window: Sequence[float] | None = None,
    ) -> None:
        require_scale(mean, std, 1, channels)
        if min(height, width) < 1:
            raise ValueError(f"height and width must be > 0, got {height} and {width}")
        if height * width > MOST_PIXELS:
            raise ValueError(
                f"height is {height:,} and width {width:,}: no image of a data set is so large"
            )
        if window is not None and (len(window) != 2 or not window[0] < window[1]):
            raise ValueError(f"window must be two rising numbers, got {list(window)}")
        ends = None if window is None else (window[0], window[1])
        self.shape = Shape(channels, height, width, fit, ends)
        self.mean, self.std = list(mean), list(std)
        self._told = False

    def expand(self, inputs: Iterable[Any]) -> Iterator[Any]:
        """A folder is all images in it, at any depth; a pattern the files that it matches.

        An open text file has a path a line. What is left out of a folder is logged.
        """
        if isinstance(inputs, (np.ndarray, Tensor)) and inputs.shape[2:] in ((3,), (4,)):
            raise ValueError(
                f"an array of shape {tuple(inputs.shape)} may be one image or {len(inputs)}: give "
                "a list of images"
            )
        yield from expanded(inputs, image_files, "image")

    def read(self, examples: Sequence[Any]) -> Batch:
        """The images, float32 (batch, channels, height, width).

        That one of one channel is much lighter or darker than the training images is logged, once.
        """
        inputs = self.inputs([pixels for pixels, _ in self.decoded(examples)])
        if self.shape.channels == 1 and not self._told and self._knows_negatives():
            self._tell_negative(inputs, examples)
        return {"input": inputs}

    def decoded(self, examples: Sequence[Any]) -> Iterator[tuple[np.ndarray[Any, Any], Opened]]:
        """Of each example its pixels (channels, height, width), and the image as it was opened."""
        for position, one in enumerate(several(examples)):
            yield self._decoded(position, one)

    def inputs(self, pixels: Sequence[np.ndarray[Any, Any]]) -> Tensor:
        """What a network reads of them."""
        normalize = Normalize(self.mean, self.std, torch.device("cpu"))
        return normalize(torch.from_numpy(np.stack(pixels)))

    def node(self, folder: Path) -> dict[str, Any]:
        return {
            "_target_": f"{type(self).__module__}.{type(self).__name__}",
            "channels": self.shape.channels,
            "height": self.shape.height,
            "width": self.shape.width,
            "fit": self.shape.fit,
            "mean": self.mean,
            "std": self.std,
            "window": None if self.shape.window is None else list(self.shape.window),
        }

    def at_own_size(self) -> OwnSizeReader:
        return OwnSizeReader(self.shape.channels, self.mean, self.std, self.shape.window)

    def preprocessing(self) -> Preprocessing:
        """``image``, uint8 (batch, channels, height, width); how it becomes that is told."""
        shape = self.shape
        outside = {
            "kind": "image",
            "channels": shape.channels,
            "height": shape.height,
            "width": shape.width,
            "fit": shape.fit,
            "resampling": "bilinear",
            "window": None if shape.window is None else list(shape.window),
            "mean": self.mean,
            "std": self.std,
        }
        return Preprocessing("image", Normalized(self.mean, self.std), outside)

    def shape_of(self, image: Opened) -> Shape:
        """What an image is made into."""
        return self.shape

    def _knows_negatives(self) -> bool:
        low, high = MOSTLY_GRAY
        return not low < self.mean[0] < high

    def _tell_negative(self, inputs: Tensor, examples: Sequence[Any]) -> None:
        """Ink on paper, to a network that has seen light on dark, is the usual mistake.

        Such is one standard deviation of pixels away, and nearer to a negative of what was seen.
        """
        (mean,), (std,) = self.mean, self.std
        own = inputs.mean((1, 2, 3)) * std + mean
        away = (own - mean).abs()
        for position in ((away > std) & (away > (own - 1 + mean).abs())).nonzero().flatten()[:1]:
            one = examples[int(position)]
            logger.warning(
                "%s has a mean of %.2f between black and white, the training images "
                "one of %.2f: is it dark on light, and they were light on dark, or the other way? "
                "If so, invert it. Of further ones nothing is said.",
                *(_name(int(position), one), own[position], mean),
            )
            self._told = True

    def _decoded(self, position: int, example: Any) -> tuple[np.ndarray[Any, Any], Opened]:
        try:
            image = opened(example)
            pixels = fitted(image, self.shape_of(image))
            if self.shape.window is None and image.values is not None:
                most = image.values.max()
                if find_window(0, most, whole=True) != SIXTEEN:
                    logger.warning(
                        "%s has 16-bit pixels up to %g, read as from 0 to 65535: the run's images "
                        "had 8 bits.",
                        *(_name(position, example), most),
                    )
            return pixels, image
        except UnreadableError as error:
            name = f", {example}," if isinstance(example, (str, PathLike)) else ""
            raise ValueError(f"example {position}{name} {error}") from error


def _name(position: int, example: Any) -> str:
    """Its path, or which of the examples it is."""
    return str(example) if isinstance(example, (str, PathLike)) else f"example {position}"


class OwnSizeReader(ImageReader):
    """Reads images of any size as they are; those of one batch have one size."""

    at_once = 1

    def __init__(
        self,
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        window: Sequence[float] | None = None,
    ) -> None:
        super().__init__(channels, 1, 1, mean, std, window=window)

    def read(self, examples: Sequence[Any]) -> Batch:
        """The images, float32 (batch, channels, height, width)."""
        try:
            return super().read(examples)
        except ValueError as error:
            if "same shape" not in str(error):
                raise
            raise ValueError("images of several sizes are read one by one") from error

    def shape_of(self, image: Opened) -> Shape:
        """Its own size."""
        own = image.image
        return replace(self.shape, height=own.height, width=own.width, fit=None)

    def node(self, folder: Path) -> dict[str, Any]:
        known = super().node(folder)
        return {name: known[name] for name in ("_target_", "channels", "mean", "std", "window")}

    def preprocessing(self) -> Preprocessing:
        """As of images of one size, whose height and width are any."""
        known = super().preprocessing()
        return replace(known, outside={**known.outside, "height": None, "width": None, "fit": None})


class Normalized(TensorSteps):
    """:class:`~dltrain.data.images.normalize.Normalize` of uint8 images, and back."""

    scale: Tensor
    offset: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        stds = torch.tensor(std, dtype=torch.float32)[:, None, None]
        means = torch.tensor(mean, dtype=torch.float32)[:, None, None]
        self.register_buffer("scale", 1 / (255 * stds))
        self.register_buffer("offset", means / stds)

    def forward(self, raw: Tensor) -> Tensor:
        return raw.float() * self.scale - self.offset

    def restore(self, inputs: Tensor) -> Tensor:
        return ((inputs + self.offset) / self.scale).round().clamp(0, 255).to(torch.uint8)


@singledispatch
def opened(example: Any) -> Opened:
    """An example as an upright image. Raises :class:`UnreadableError` for what is none."""
    from PIL import Image

    if not isinstance(example, Image.Image):
        raise UnreadableError(f"is no image, but of type {type(example).__name__}")
    return upright(example)


@opened.register(str)
def _(example: str) -> Opened:
    return open_upright(Path(example).expanduser())


@opened.register(Path)
def _(example: Path) -> Opened:
    return open_upright(example)


@opened.register(bytes)
def _(example: bytes) -> Opened:
    return open_upright(example)


@opened.register(Tensor)
def _(example: Tensor) -> Opened:
    if example.dtype != torch.uint8:  # numpy has no bfloat16
        raise UnreadableError(f"is a tensor of {example.dtype}, not one of uint8")
    return opened(example.numpy(force=True))


@opened.register(np.ndarray)
def _(example: np.ndarray[Any, Any]) -> Opened:
    from PIL import Image

    array = example[..., 0] if example.ndim == 3 and example.shape[2] == 1 else example
    color = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype == np.uint16 and array.ndim == 2 and array.size:
        return upright(Image.fromarray(array))
    if array.dtype != np.uint8 or not (array.ndim == 2 or color) or not array.size:
        raise UnreadableError(
            f"is an array of {example.dtype} of shape {example.shape}, not one of uint8, "
            "(height, width) or (height, width, channels)"
        )
    return upright(Image.fromarray(array))
