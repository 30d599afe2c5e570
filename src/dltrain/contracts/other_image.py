"""An image that a task learns from, beside its data."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor


class OtherImage:
    """An image file that a task is given: a painting whose style is to be learned.

    It is a handle: training opens it, and whoever loads what was trained leaves it closed, so that
    a run is used without the file. ``size`` are the pixels of its longer side.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path, self.size = path, size
        self._pixels: Tensor | None = None
        self.digest = ""
        """Of its pixels, in hexadecimal digits; empty while it is closed."""

    def open(self, pixels: Tensor) -> None:
        """Take its ``pixels`` (3, height, width) of 0..1, on the device."""
        self._pixels = pixels
        self.digest = hashlib.sha256(pixels.cpu().numpy().tobytes()).hexdigest()[:16]

    @property
    def pixels(self) -> Tensor:
        """(3, height, width) of 0..1."""
        assert self._pixels is not None, "training opens it"
        return self._pixels


class OtherImages:
    """Image files that a task is given, one or a folder of them, as :class:`OtherImage` is one.

    ``size`` are the pixels of the longer side of each.
    """

    def __init__(self, path: str, size: int) -> None:
        self.path, self.size = path, size
        self._pixels: list[Tensor] = []
        self.digest = ""
        """Of all their pixels, in hexadecimal digits; empty while they are closed."""

    def open(self, pixels: Sequence[Tensor]) -> None:
        """Take the ``pixels`` (3, height, width) of 0..1 of each, on the device."""
        self._pixels = list(pixels)
        found = hashlib.sha256()
        for one in pixels:
            found.update(one.cpu().numpy().tobytes())
        self.digest = found.hexdigest()[:16]

    @property
    def pixels(self) -> list[Tensor]:
        """Of each (3, height, width) of 0..1, the files in the order of their names."""
        assert self._pixels, "training opens them"
        return self._pixels


@runtime_checkable
class LearnsFromImages(Protocol):
    """A task that is given image files; in training they are open before its first step."""

    def image_files(self) -> Mapping[str, OtherImage | OtherImages]:
        """The handles, by the name of the argument that names the file."""
