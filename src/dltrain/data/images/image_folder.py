"""Anyone's own images: one folder a class."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dltrain.contracts.paths import FilePath
from dltrain.data.cache import EncodedImages
from dltrain.data.images.decoded import DecodedImages
from dltrain.errors import UserError

SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What the folder of a split may be called."""


class ImageFolder(DecodedImages):
    """Images in ``path``: a folder for each class, or such folders in train, val and test.

    Any file below a class's folder counts, but for hidden ones. Classes are in the order of their
    names. A validation split that is there is used as it is.

    Reading raises ``ValueError`` where the folders cannot be that.
    """

    def __init__(self, path: FilePath, **decoding: Any) -> None:
        self.path = Path(path).expanduser()
        super().__init__(**decoding)

    def paths(self) -> list[Path]:
        """The folder."""
        return [self.path]

    def files(self) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        """Every file by its name, size and time of change."""
        given = self._given()
        self.class_names = tuple(folder.name for folder in _folders(given["train"]))
        _check_classes(given, self.class_names)
        key: dict[str, Any] = {"source": "folder", "path": str(self.path.absolute())}
        splits = {}
        for split, folder in given.items():
            files: list[Path] = []
            targets: list[int] = []
            for position, name in enumerate(self.class_names):
                found = list(_files(folder / name))
                if not found and (split == "train" or (folder / name).is_dir()):
                    raise UserError(f"data.path: the class folder {folder / name} has no file.")
                files += found
                targets += [position] * len(found)
            states = [(path, path.stat()) for path in files]
            key[split] = [(str(path), s.st_size, s.st_mtime_ns) for path, s in states]
            splits[split] = EncodedImages([str(path) for path in files], targets, files.__getitem__)
        return key, splits

    def _given(self) -> dict[str, Path]:
        """The folder of each split that there is."""
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is no folder")
        names = {folder.name.lower(): folder for folder in _folders(self.path)}
        found = {
            split: next((names[n] for n in spellings if n in names), None)
            for split, spellings in SPLITS.items()
        }
        given = {split: folder for split, folder in found.items() if folder is not None}
        return given if "train" in given else {"train": self.path}


def _check_classes(given: Mapping[str, Path], class_names: Sequence[str]) -> None:
    place = given["train"]
    if len(class_names) < 2:
        has = f"has one class, {class_names[0]!r}" if class_names else "has no folder"
        raise ValueError(f"{place} {has}; give each class its folder of images")
    for folder in given.values():
        unknown = {f.name for f in _folders(folder)} - set(class_names)
        if unknown:
            raise ValueError(
                f"{folder} has the class {sorted(unknown)[0]!r}, which {place} has not; it "
                "cannot be learned"
            )


def _folders(place: Path) -> list[Path]:
    entries = (path for path in place.iterdir() if not path.name.startswith("."))
    return sorted(path for path in entries if path.is_dir())


def _files(folder: Path) -> Iterator[Path]:
    """Files at any depth, but for hidden ones, in order."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and name.lower() not in ("thumbs.db", "desktop.ini"):
                yield Path(place) / name
