"""Anyone's own images: one folder a class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.paths import FilePath
from dltrain.data.cache import EncodedImages
from dltrain.data.images.decoded import DecodedImages
from dltrain.data.images.layout import Classes, Layout, find_splits
from dltrain.data.images.listing import folders
from dltrain.errors import UserError


class ImageFolder(DecodedImages):
    """Images in ``path``: a folder for each class, or such folders in train, val and test.

    Any image at any depth below a class's folder counts for it; hidden files, those of the system
    and those that are no images are left out and counted. ``layout`` says whether folders called
    train, val and test are ``splits`` or ``classes`` like others, where both are possible.
    ``classes`` are those to use, in this order; null: all, in the order of their names. A
    validation split that is there is used as it is.

    Reading raises ``ValueError`` where the folders cannot be that.
    """

    def __init__(
        self,
        path: FilePath,
        layout: Layout = "auto",
        classes: Sequence[str] | None = None,
        **decoding: Any,
    ) -> None:
        self.path, self.layout = Path(path).expanduser(), layout
        self.classes = None if classes is None else tuple(classes)
        if self.classes is not None and len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError(f"classes are two or more different ones, got {list(self.classes)}")
        super().__init__(**decoding)

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.path)

    def paths(self) -> list[Path]:
        """The folder."""
        return [self.path]

    def files(self) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        """Every file by its name and :func:`state`."""
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is no folder")
        try:
            given = find_splits(self.path, self.layout, self.unused)
        except OSError as error:
            raise UserError(f"data.path: {error.filename}: {error.strerror}") from error
        given = self._chosen(given)
        _check_classes(given, self.path)
        self.class_names = tuple(given["train"])
        key: dict[str, Any] = {"source": "folder", "path": str(self.path.absolute())}
        splits = {}
        for split, classes in given.items():
            files = [file for name in self.class_names for file in classes.get(name, [])]
            counts = [len(classes.get(name, [])) for name in self.class_names]
            targets = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
            key[split] = [(str(path), *state(path)) for path in files]
            splits[split] = EncodedImages([str(path) for path in files], targets, files.__getitem__)
        return key, splits

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


def state(path: Path) -> tuple[int, int, int]:
    """What changes when a file does: its size and times of change, in nanoseconds.

    A program may set a file's size and time back (``cp -p``, ``touch``), but not the time at which
    the system saw that change. All 0 for a file that is not there.
    """
    try:
        found = path.stat()
    except OSError:
        return 0, 0, 0
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


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
    for split, classes in given.items():
        unknown = [name for name, files in classes.items() if files and name not in train]
        if unknown:
            raise ValueError(
                f"{path}: the {split} split has the class {unknown[0]!r}, which train has not; it "
                f"cannot be learned. {did_you_mean(unknown[0], train)}".rstrip()
            )
