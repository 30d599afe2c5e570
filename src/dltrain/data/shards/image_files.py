"""Images in shards: kept as the files they are, decoded when a batch needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from dltrain.contracts.data import Batch
from dltrain.data.images.decode import (
    OtherSizeError,
    Shape,
    UnreadableError,
    fitted,
    open_upright,
)
from dltrain.data.images.plain import Plain
from dltrain.data.images.survey import GRAY
from dltrain.data.shards.image_columns import packed_of
from dltrain.data.shards.labels import Labels
from dltrain.data.shards.lanes import Contents, Encoded, Place, RefusedError
from dltrain.data.shards.packed import Packed

if TYPE_CHECKING:
    import pyarrow as pa


class ImageFiles(Contents):
    """Files' contents, and classes; decoded when a batch needs them.

    ``guessed``: the number of channels is that of some first images. ``wide``: what becomes black
    and white of more than 8 bits is known.
    """

    def __init__(
        self,
        image: str,
        labels: Labels | None,
        shape: Shape,
        guessed: bool,
        wide: bool,
        skip_unreadable: bool,
    ) -> None:
        self._labels, self._shape, self._skip = labels, shape, skip_unreadable
        self._gray = guessed and shape.channels == 1
        self._wide, self._plain = wide, Plain(shape)
        self.columns = [image] if labels is None else [image, labels.column]

    def encoded(self, rows: pa.RecordBatch, place: Place) -> Encoded:
        found: Encoded = {"input": packed_of(rows.column(0))}
        if self._labels is not None:
            found["target"] = self._labels.codes(rows.column(1))
        return found

    def decoded(self, examples: Encoded) -> tuple[Batch, Mapping[int, str]]:
        files = examples["input"]
        assert isinstance(files, Packed)
        shape = self._shape.channels, self._shape.height, self._shape.width
        pixels = torch.empty(len(files), *shape, dtype=torch.uint8)
        images: list[torch.Tensor] = []
        faults: dict[int, str] = {}
        for index, (file, plain) in enumerate(self._plain.decode(*files.tensor())):
            if plain is not None:
                images.append(plain)
                continue
            try:
                images.append(self._decoded(file.numpy().tobytes()))
            except UnreadableError as error:
                if not self._skip:
                    hint = "\nMend or remove it, or set data.skip_unreadable=true."
                    raise RefusedError(index, f"{error}{hint}") from error
                faults[index] = str(error)
            except (OtherSizeError, _OtherKindError) as error:
                raise RefusedError(index, str(error)) from error
        good = [index for index in range(len(files)) if index not in faults] if faults else ...
        pixels = pixels[: len(images)]
        if images:
            torch.stack(images, out=pixels)
        batch = {"input": pixels}
        if self._labels is not None:
            batch["target"] = torch.from_numpy(np.asarray(examples["target"])[good])
        return batch, faults

    def _decoded(self, file: bytes) -> torch.Tensor:
        opened = open_upright(file)
        mode = opened.image.mode
        if self._gray and mode not in GRAY and not mode.startswith("I;"):
            raise _OtherKindError("has color, and the first images have none; set data.channels=3")
        if opened.values is not None and not self._wide:
            raise _OtherKindError(
                "has more than 8 bits, and the first images have 8; give data.window=[LOW,HIGH], "
                "what becomes black and white"
            )
        try:
            return torch.from_numpy(np.ascontiguousarray(fitted(opened, self._shape)).copy())
        except OtherSizeError as error:
            raise _OtherKindError(f"{error}; give data.size") from error


class _OtherKindError(Exception):
    """An image unlike the first ones."""
