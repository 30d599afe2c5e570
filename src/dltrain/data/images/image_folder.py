"""Anyone's own images: one folder a class."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import DataSpec
from dltrain.contracts.paths import FilePath
from dltrain.data.cache import EncodedImages, state
from dltrain.data.images.decoded import DecodedImages
from dltrain.data.images.labels import by_split, is_multilabel, read_labels, with_one
from dltrain.data.images.layout import Classes, Layout, find_splits
from dltrain.data.images.listing import folders, image_files
from dltrain.errors import UserError

logger = logging.getLogger(__name__)


class ImageFolder(DecodedImages):
    """Images in ``path``: a folder for each class, or such folders in train, val and test.

    Any image at any depth below a class's folder counts for it; hidden files, those of the system
    and those that are no images are left out and counted. ``layout`` says whether folders called
    train, val and test are ``splits`` or ``classes`` like others, where both are possible.
    ``splits`` says instead which folder is which split: ``{train: a, validation: b, test: c}``.
    ``classes`` are those to use, in this order; null: all, in the order of their names. A
    validation split that is there is used as it is.

    ``labels`` is a csv file that gives them instead of the folders; see
    :func:`~dltrain.data.images.labels.read_labels`. Where an image has several, the target is of
    kind ``labels``. Files below folders called train, val and test are of these splits.

    Reading raises ``ValueError`` where the folders cannot be that.
    """

    def __init__(
        self,
        path: FilePath,
        layout: Layout = "auto",
        splits: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        labels: FilePath | None = None,
        **decoding: Any,
    ) -> None:
        self.path, self.layout = Path(path).expanduser(), layout
        self.classes = None if classes is None else tuple(classes)
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes are two or more different ones, got {list(self.classes)}")
        self.folders = splits
        if splits is not None and layout != "auto":
            raise ValueError("splits say what the folders are: layout is auto then")
        by_folder = classes is not None or splits is not None or layout != "auto"
        if labels is not None and by_folder:
            raise ValueError(
                "labels come from a file or from the folders: no layout, splits and classes"
            )
        self.labels = None if labels is None else Path(labels).expanduser()
        super().__init__(**decoding)

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.path)

    def paths(self) -> list[Path]:
        """The folder, and the table of labels."""
        return [self.path] if self.labels is None else [self.path, self.labels]

    def files(self) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        """Every file by its name and :func:`~dltrain.data.cache.state`."""
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is no folder")
        try:
            if self.labels is not None:
                return self._key(*self._from_table(self.labels))
            given = self._chosen(find_splits(self.path, self.layout, self.unused, self.folders))
        except OSError as error:
            raise UserError(f"data.path: {error.filename}: {error.strerror}") from error
        _check_classes(given, self.path)
        self.class_names = tuple(given["train"])
        files, targets = {}, {}
        for split, classes in given.items():
            files[split] = [file for name in self.class_names for file in classes.get(name, [])]
            counts = [len(classes.get(name, [])) for name in self.class_names]
            targets[split] = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
        return self._key(files, targets)

    def _key(
        self, files: Mapping[str, list[Path]], targets: Mapping[str, np.ndarray[Any, Any]]
    ) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        key: dict[str, Any] = {"source": "folder", "path": str(self.path.absolute())}
        splits = {}
        for split, paths in files.items():
            key[split] = [(str(path), *state(path)) for path in paths]
            key[f"{split} targets"] = hashlib.sha256(targets[split].tobytes()).hexdigest()
            splits[split] = EncodedImages(
                [str(path) for path in paths], targets[split], paths.__getitem__
            )
        return key, splits

    def _from_table(
        self, table: Path
    ) -> tuple[dict[str, list[Path]], dict[str, np.ndarray[Any, Any]]]:
        """Files and targets of each split, as a table has them."""
        labels = read_labels(table, self.path, image_files(self.path, self.unused), self.unused)
        self.multilabel = is_multilabel(labels)
        if not self.multilabel:
            labels = with_one(labels, table, self.unused)
        files = by_split(labels, self.path)
        self.class_names = sorted({name for file in files["train"] for name in labels[file]})
        if len(self.class_names) < 2:
            raise ValueError(f"{table}: there are less than two labels: {self.class_names}")
        places = {name: place for place, name in enumerate(self.class_names)}
        targets = {}
        for split, paths in files.items():
            unknown = {name for file in paths for name in labels[file]} - places.keys()
            if unknown:
                raise ValueError(
                    f"{table}: the {split} split has the label {min(unknown)!r}, which no training "
                    "image has"
                )
            if self.multilabel:
                matrix = np.zeros((len(paths), len(places)), np.uint8)
                for row, file in enumerate(paths):
                    matrix[row, [places[name] for name in labels[file]]] = 1
                targets[split] = matrix
            else:
                targets[split] = np.array([places[labels[file][0]] for file in paths], np.int64)
        return files, targets

    def check_channels(self) -> None:
        """Once it is known what the target is."""
        if self.labels is None or self.class_names:
            super().check_channels()

    def outline(self) -> DataSpec:
        """As of all images; whether a table has one label or several, only reading tells."""
        known = super().outline()
        if self.labels is not None and not self.class_names:
            return DataSpec({"input": known.fields["input"]}, complete=False)
        return known

    def _chosen(self, given: dict[str, Classes]) -> dict[str, Classes]:
        """The classes that are asked for; the others' files are counted."""
        if self.classes is None:
            return given
        there = given["train"]
        missing = [name for name in self.classes if name not in there]
        if missing:
            raise ValueError(
                f"{self.path} has no class {missing[0]!r}, which data.classes names. "
                f"{did_you_mean(missing[0], there)} It has {', '.join(there)}.".replace("  ", " ")
            )
        for classes in given.values():
            for name, files in classes.items():
                if name not in self.classes and files:
                    self.unused.add("left out by data.classes", name, len(files))
        return {
            split: {name: classes[name] for name in self.classes if name in classes}
            for split, classes in given.items()
        }


def _check_classes(given: Mapping[str, Classes], path: Path) -> None:
    train = given["train"]
    if not train:
        raise ValueError(f"{path} has no folder; give each class its folder of images")
    if len(train) < 2:
        only = next(iter(train))
        inside = path / only
        hint = f", or data.path={inside}" if inside.is_dir() and len(folders(inside)) > 1 else ""
        raise ValueError(f"{path} has one class, {only!r}; give each its folder of images{hint}")
    empty = [name for name, files in train.items() if not files]
    if empty:
        raise UserError(
            f"data.path: {len(empty)} of {len(train)} class folders have no image: "
            f"{', '.join(empty[:5])}{', …' if len(empty) > 5 else ''}. Remove them, or name the "
            "classes to use as data.classes=[…]."
        )
    alike = {name.casefold(): name for name in train}
    for name in train:
        if alike[name.casefold()] != name:
            logger.warning(
                "The classes %s and %s differ by capital letters alone.",
                *(name, alike[name.casefold()]),
            )
    for split, classes in given.items():
        unknown = [name for name, files in classes.items() if files and name not in train]
        if unknown:
            raise ValueError(
                f"{path}: the {split} split has the class {unknown[0]!r}, which train has not; it "
                f"cannot be learned. {did_you_mean(unknown[0], train)}".rstrip()
            )
