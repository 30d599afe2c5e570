"""New images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from dltrain.contracts.data import Batch, Reader
from dltrain.data.images.decode import Fit, Shape, UnreadableError, fitted, open_upright, upright
from dltrain.data.images.normalize import Normalize
from dltrain.data.streams.reader import several

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageReader(Reader):
    """Reads images of any size into ``channels`` x ``height`` x ``width``, as the run's were.

    An example is the path of a file, its content as bytes, a PIL image, or a uint8 array or
    tensor (height, width) or (height, width, channels). ``fit`` says how another shape gets there:
    crop, pad or stretch. Pixels in 0..1 are normalized by ``mean`` and ``std``.
    """

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
        fit: Fit = "crop",
    ) -> None:
        self.shape = Shape(channels, height, width, fit)
        self.mean, self.std = list(mean), list(std)

    def read(self, examples: Sequence[Any]) -> Batch:
        """The images, float32 (batch, channels, height, width)."""
        pixels = [self._pixels(position, one) for position, one in enumerate(several(examples))]
        normalize = Normalize(self.mean, self.std, torch.device("cpu"))
        return {"input": normalize(torch.from_numpy(np.stack(pixels)))}

    def node(self, folder: Path) -> dict[str, Any]:
        """Shape and numbers."""
        return {
            "_target_": f"{__name__}.ImageReader",
            "channels": self.shape.channels,
            "height": self.shape.height,
            "width": self.shape.width,
            "fit": self.shape.fit,
            "mean": self.mean,
            "std": self.std,
        }

    def _pixels(self, position: int, example: Any) -> np.ndarray[Any, Any]:
        try:
            return fitted(opened(example), self.shape)
        except UnreadableError as error:
            name = f", {example}," if isinstance(example, (str, Path)) else ""
            raise ValueError(f"example {position}{name} {error}") from error


@singledispatch
def opened(example: Any) -> Image:
    """An example as an upright image. Raises :class:`UnreadableError` for what is none."""
    from PIL import Image

    if not isinstance(example, Image.Image):
        raise UnreadableError(f"is no image, but of type {type(example).__name__}")
    return upright(example)


@opened.register(str)
def _(example: str) -> Image:
    return open_upright(Path(example).expanduser())


@opened.register(Path)
def _(example: Path) -> Image:
    return open_upright(example)


@opened.register(bytes)
def _(example: bytes) -> Image:
    return open_upright(example)


@opened.register(Tensor)
def _(example: Tensor) -> Image:
    if example.dtype != torch.uint8:  # numpy has no bfloat16
        raise UnreadableError(f"is a tensor of {example.dtype}, not one of uint8")
    return opened(example.numpy(force=True))


@opened.register(np.ndarray)
def _(example: np.ndarray[Any, Any]) -> Image:
    from PIL import Image

    array = example[..., 0] if example.ndim == 3 and example.shape[2] == 1 else example
    color = array.ndim == 3 and array.shape[2] in (3, 4)
    if array.dtype != np.uint8 or not (array.ndim == 2 or color) or not array.size:
        raise UnreadableError(
            f"is an array of {example.dtype} of shape {example.shape}, not one of uint8, "
            "(height, width) or (height, width, channels)"
        )
    return upright(Image.fromarray(array))
