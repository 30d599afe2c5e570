"""Columns of a table that are no features: images that it names, and texts to be read."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dltrain.contracts.data import Batch, Field
from dltrain.data.images.decode import (
    OtherSizeError,
    Shape,
    UnreadableError,
    fitted,
    open_upright,
)
from dltrain.data.images.normalize import Normalize
from dltrain.data.tables.raw import RawTable
from dltrain.data.text.scripts import Tokens
from dltrain.data.text.vocabulary import PAD_INDEX, Vocabulary
from dltrain.errors import require_at_least

logger = logging.getLogger(__name__)

MissingImages = Literal["refuse", "allow"]
ABSENT = ".absent"
"""What is behind the name of an image's field in that of the column that says it is not there."""
PART = 4096
"""Texts that are made into tokens at once."""
GRAY = ("1", "L", "LA", "I", "I;16", "F")


@dataclass
class Media:
    """The columns ``images`` and ``texts`` of a table, and how they are read.

    A cell of an image column is the path of a file, relative to the table's folder. All images are
    brought to ``image_size`` pixels a side (None: they have one size as they are), in color where
    any is. A row whose image is not there is refused, or counted (``missing_images``).
    Of texts the first ``text_length`` ``tokens`` count; the ``vocabulary_size`` most frequent of
    the training rows are known, of each column its own.
    """

    images: Sequence[str] = ()
    texts: Sequence[str] = ()
    image_size: int | None = None
    missing_images: MissingImages = "refuse"
    tokens: Tokens = "word"
    text_length: int = 64
    vocabulary_size: int = 10_000
    vocabularies: dict[str, Vocabulary] = field(default_factory=dict)
    mean: dict[str, list[float]] = field(default_factory=dict)
    std: dict[str, list[float]] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the settings."""
        require_at_least(1, image_size=1 if self.image_size is None else self.image_size)
        require_at_least(1, text_length=self.text_length)
        require_at_least(3, vocabulary_size=self.vocabulary_size)
        twice = set(self.images) & set(self.texts)
        if twice:
            raise ValueError(f"texts: {min(twice)!r} is in data.images, too")
        self._known: dict[int, str] = {}
        self._counts: dict[str, tuple[int, ...]] = {}

    def require_free(self, **others: Sequence[str]) -> None:
        """Raise ValueError for a column that is used otherwise, too."""
        for where, names in others.items():
            for kind, own in (("images", self.images), ("texts", self.texts)):
                if both := set(names) & set(own):
                    said = "the target" if where == "target" else f"in data.{where}, too"
                    raise ValueError(f"{kind}: {min(both)!r} is {said}")

    def reading(self) -> dict[str, Any]:
        """What a reader of new rows is told."""
        images = {
            name: {
                **dict(zip(("channels", "height", "width"), self.shapes[name], strict=True)),
                "mean": self.mean[name],
                "std": self.std[name],
                "fit": "pad",
            }
            for name in self.images
        }
        tokenizers = [self.vocabularies[name].text for name in self.texts]
        return {"images": images, "texts": list(self.texts), "tokenizers": tokenizers}

    def located(self, table: RawTable, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Rows of a table, in which paths of images are what they are from the working folder."""
        return [row | located(row, self.images, Path(table.name).parent) for row in rows]

    @property
    def columns(self) -> list[str]:
        """All of them."""
        return [*self.images, *self.texts]

    def fields(self) -> dict[str, Field]:
        """An input for each column; sizes are known once :meth:`learn` has seen the rows."""
        found = {}
        for name in self.images:
            shape = self.shapes.get(name, (None, None, None))
            moments = {"mean": self.mean.get(name, ()), "std": self.std.get(name, ())}
            found[key_of(name)] = Field(shape, "image", "input", **moments)  # type: ignore[arg-type]
        for name in self.texts:
            words = self.vocabularies[name].words if name in self.vocabularies else []
            found[key_of(name)] = Field(
                (None,), "tokens", "input", size=len(words) or None, names=tuple(words),
                counts=self._counts.get(name, ()), fill=PAD_INDEX,
            )  # fmt: skip
        return found

    def read(self, table: RawTable) -> dict[str, NDArray[Any]]:
        """Of all rows the pixels of their images, and a hash of each text.

        Raises ValueError naming file and row of an image that is not there.
        """
        found: dict[str, NDArray[Any]] = {}
        for name in self.images:
            pixels, absent = self._pixels(table, name)
            found[key_of(name)] = pixels
            if self.missing_images == "allow":
                found[key_of(name) + ABSENT] = absent
        for name in self.texts:
            texts = texts_of(table.columns[name].to_pylist())
            self._tell_empty(table, name, texts)
            hashes = {text: _hash(text) for text in dict.fromkeys(texts)}
            self._known |= {number: text for text, number in hashes.items()}
            found[key_of(name)] = np.array([hashes[text] for text in texts], np.int64)
        return found

    def learn(self, columns: Mapping[str, Tensor]) -> None:
        """Vocabularies, and the mean and std of pixels, from the training rows alone."""
        for name in self.images:
            pixels, absent = columns[key_of(name)], columns.get(key_of(name) + ABSENT)
            known = pixels if absent is None else pixels[~absent]
            self.mean[name], self.std[name] = _moments(known)
        for name in self.texts:
            texts = self._texts(columns[key_of(name)])
            self.vocabularies[name] = found = Vocabulary.learn(
                texts, self.vocabulary_size, self.tokens
            )
            found.cut(self.text_length)
            ids = np.concatenate(found.encode(texts) or [np.empty(0, np.int32)])
            counts = np.bincount(ids, minlength=len(found))
            self._counts[name] = tuple(counts.tolist())
        self._tell()

    def encoded(self, columns: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The columns of some rows, texts as tokens (rows, time)."""
        found = dict(columns)
        for name in self.texts:
            texts, vocabulary = self._texts(columns[key_of(name)]), self.vocabularies[name]
            rows = [
                row
                for first in range(0, len(texts), PART)
                for row in vocabulary.rows(texts[first : first + PART])
            ]
            found[key_of(name)] = vocabulary.padded(rows)
        return found

    def prepare(self, batch: Batch) -> Batch:
        """Pixels normalized; an image that is not there is no number."""
        changed = dict(batch)
        for name in self.images:
            key = key_of(name)
            device = batch[key].device
            pixels = Normalize(self.mean[name], self.std[name], device)(batch[key])
            absent = changed.pop(key + ABSENT, None)
            if absent is not None:
                pixels = pixels.masked_fill(absent[:, None, None, None], torch.nan)
            changed[key] = pixels
        return changed

    def _pixels(self, table: RawTable, name: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        cells = table.columns[name].to_pylist()
        folder, absent = Path(table.name).parent, np.zeros(len(cells), np.bool_)
        images: list[NDArray[Any] | None] = []
        shape: Shape | None = None
        if name in self.shapes:  # as the training rows
            shape = _shape(self.shapes[name], self.image_size)
        for row, cell in enumerate(cells):
            said, path = "is empty: it names no image", Path()
            if cell is not None and str(cell).strip():
                path = folder / Path(str(cell).strip()).expanduser()
                said = "" if path.is_file() else f"names {str(path)!r}, and there is no such file"
            if said:
                absent[row] = True
                images.append(None)
                if self.missing_images == "refuse":
                    hint = "; data.missing_images=allow counts such rows, and keeps them"
                    raise ValueError(f"{table.place(row, name)} {said}{hint}")
                continue
            try:
                opened = open_upright(path)
                if shape is None:
                    image = opened.image
                    side = self.image_size
                    size = (image.height, image.width) if side is None else (side, side)
                    shape = _shape((3, *size), side)
                own = 1 if opened.image.mode in GRAY else 3
                images.append(fitted(opened, Shape(own, shape.height, shape.width, shape.fit)))
            except (UnreadableError, OtherSizeError) as error:
                size_hint = "; data.image_size=64 brings all to one size"
                hint = size_hint if isinstance(error, OtherSizeError) else ""
                raise ValueError(f"{table.place(row, name)}: {path} {error}{hint}") from error
        if shape is None:
            raise ValueError(f"{table.name}: column {name!r} names no image that is there")
        known = self.shapes.get(name)
        channels = known[0] if known else max(one.shape[0] for one in images if one is not None)
        stacked = np.zeros((len(cells), channels, shape.height, shape.width), np.uint8)
        for row, one in enumerate(images):
            if one is not None:
                stacked[row] = one if len(one) <= channels else _gray(one)
        self.shapes[name] = stacked.shape[1:]
        if absent.any():
            logger.warning(
                "%s: %s of %s rows have no image %r; it counts as left out there.",
                *(table.name, f"{int(absent.sum()):,}", f"{len(cells):,}", name),
            )
        return stacked, absent

    def _texts(self, hashes: Tensor) -> list[str]:
        return [self._known[number] for number in hashes.tolist()]

    def _tell(self) -> None:
        parts = [
            f"images {name!r} of {'x'.join(map(str, self.shapes[name]))}" for name in self.images
        ]
        parts += [
            f"texts {name!r} of {len(self.vocabularies[name]):,} {self.tokens}s"
            for name in self.texts
        ]
        if parts:
            logger.info("beside the features: %s.", ", ".join(parts))

    @staticmethod
    def _tell_empty(table: RawTable, name: str, texts: Sequence[str]) -> None:
        empty = sum(not text.strip() for text in texts)
        if empty:
            logger.warning("%s: %s texts of %r are empty.", table.name, f"{empty:,}", name)


def key_of(column: str) -> str:
    """The input that a column of images or texts becomes."""
    return f"input.{column}"


def located(row: Mapping[str, Any], images: Iterable[str], folder: Path) -> dict[str, str]:
    """The cells of ``images`` that are paths, relative to ``folder``."""
    return {
        name: str(folder / Path(row[name].strip()).expanduser())
        for name in images
        if isinstance(row.get(name), str) and row[name].strip()
    }


def texts_of(cells: Sequence[Any]) -> list[str]:
    """Cells as texts; one that is missing is empty."""
    return ["" if cell is None else str(cell) for cell in cells]


def _shape(known: Sequence[int], size: int | None) -> Shape:
    channels, height, width = known
    return Shape(channels, height, width, None if size is None else "pad")


def _gray(pixels: NDArray[Any]) -> NDArray[Any]:
    """Color (3, height, width) by its luma (ITU-R BT.601), as Pillow has it."""
    weights = np.array([0.299, 0.587, 0.114])[:, None, None]
    return np.asarray((pixels * weights).sum(0, keepdims=True).round(), np.uint8)


def _moments(pixels: Tensor) -> tuple[list[float], list[float]]:
    """The mean and std of each channel of uint8 images (n, channels, height, width), in 0..1."""
    channels = pixels.shape[1]
    counts = torch.stack(
        [torch.bincount(pixels[:, c].flatten().int(), minlength=256) for c in range(channels)]
    ).double()
    values = torch.arange(256, dtype=torch.float64) / 255
    total = counts.sum(1).clamp_min(1)
    mean = (counts * values).sum(1) / total
    variance = (counts * (values - mean[:, None]).square()).sum(1) / total
    std = torch.where(variance > 0, variance.sqrt(), 1.0)
    return mean.tolist(), std.tolist()


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)
