"""Anyone's own images: one folder a class, or none."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import DataSpec
from dltrain.contracts.paths import FilePath
from dltrain.data.cache import EncodedImages, state
from dltrain.data.images.decoded import DecodedImages
from dltrain.data.images.labels import by_split, is_multilabel, read_labels, with_one
from dltrain.data.images.layout import Classes, Layout, find_splits
from dltrain.data.images.listing import Unused, folders, image_files
from dltrain.data.images.lists import read_list
from dltrain.data.images.unlabeled import find_unlabeled
from dltrain.data.streams.division import Division
from dltrain.data.streams.in_memory import Split
from dltrain.data.tables.dividing import RowSplits
from dltrain.data.tables.parse import Numbers, Texts
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

Files = dict[str, list[Path]]
Targets = dict[str, np.ndarray[Any, Any]]
"""Of each split."""


class ImageFolder(DecodedImages):
    """Images in ``path``: a folder for each class, or such folders in train, val and test.

    Any image at any depth below a class's folder counts for it; hidden files, those of the system
    and those that are no images are left out and counted. ``layout`` says whether folders called
    train, val and test are ``splits`` or ``classes`` like others, where both are possible.
    ``splits`` says instead which folder is which split: ``{train: a, validation: b, test: c}``.
    ``classes`` are those to use, in this order; null: all, in the order of their names. A
    validation split that is there is used as it is.

    Where the task needs no target, images that lie in no class's folder will do: all in ``path``,
    or all in its folders train, val and test. ``layout=unlabeled`` says so of any folders.

    ``labels`` is a csv file that gives them instead of the folders; see
    :func:`~dltrain.data.images.labels.read_labels`. Where an image has several, the target is of
    kind ``labels``. Files below folders called train, val and test are of these splits. ``group``,
    ``order`` or ``split_column`` is a column of that file by which images are split
    (:class:`~dltrain.data.tables.dividing.RowSplits`).

    ``test`` and ``validation`` are fractions, or files that list such images
    (:func:`~dltrain.data.images.lists.read_list`); all others are trained on.

    Reading raises ``ValueError`` where the folders cannot be that.
    """

    def __init__(
        self,
        path: FilePath,
        layout: Layout = "auto",
        splits: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        labels: FilePath | None = None,
        test: float | FilePath = 0.2,
        validation: float | FilePath = 0.1,
        group: str | None = None,
        order: str | None = None,
        split_column: str | None = None,
        **decoding: Any,
    ) -> None:
        self.lists = {}
        for split, value in (("validation", validation), ("test", test)):
            if isinstance(value, str):
                self.lists[split] = Path(value).expanduser()
            else:
                decoding[split] = value
        self.row_splits = RowSplits(group, order, split_column)
        if self.row_splits.column is not None and labels is None:
            raise ValueError(
                f"{self.row_splits.key[0]} is a column of a table: give the file as labels"
            )
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
        if layout == "unlabeled" and classes is not None:
            raise ValueError("classes are of a layout that has some: not of unlabeled")
        self.labels = None if labels is None else Path(labels).expanduser()
        super().__init__(**decoding)

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.path)

    def paths(self) -> list[Path]:
        """The folder, the table of labels, and the lists of images."""
        table = [] if self.labels is None else [self.labels]
        return [self.path, *table, *self.lists.values()]

    def division(self, train: Split) -> Division:
        """By the column that splits the images, where there is one."""
        groups = None if self.groups is None else torch.from_numpy(self.groups)
        return self.row_splits.division(groups) or super().division(train)

    def files(self) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        """Every file by its name and :func:`~dltrain.data.cache.state`."""
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is no folder")
        try:
            if self.labels is not None:
                return self._key(*self._divided(*self._from_table(self.labels)))
            unlabeled = self._unlabeled()
            if unlabeled is not None:
                none = {split: np.zeros(len(some), np.int64) for split, some in unlabeled.items()}
                return self._key(*self._divided(unlabeled, none, {}))
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
        return self._key(*self._divided(files, targets, {}))

    def _unlabeled(self) -> Files | None:
        """The images of each split, where they have no classes and need none."""
        asked = self.layout == "unlabeled"
        if asked and self.target_needed:
            raise ValueError("layout=unlabeled leaves no classes, and this task learns some")
        choice = self.classes is not None or self.folders is not None
        if self.target_needed or choice or self.layout not in ("auto", "unlabeled"):
            return None
        unused = Unused()
        found = find_unlabeled(self.path, unused, asked)
        if found is not None:
            self.unlabeled, self.unused = True, unused
            if not found["train"]:
                raise ValueError(f"{self.path} has no image")
        return found

    def _divided(
        self, files: Files, targets: Targets, cells: Mapping[Path, tuple[int, str]]
    ) -> tuple[Files, Targets]:
        """With the splits that lists or a column take from the training images."""
        train, classes = files["train"], targets["train"]
        rows: dict[str, list[int]] = {}
        for split, path in self.lists.items():
            if split in files:
                raise ValueError(f"{split}: {path} lists images, and {self.path} has that split")
            rows[split] = read_list(split, path, self.path, train)
        listed = [row for some in rows.values() for row in some]
        if len(set(listed)) < len(listed):
            both = next(row for row in listed if listed.count(row) > 1)
            raise ValueError(f"{train[both]} is listed for validation and for the test")
        rows["train"] = sorted(set(range(len(train))) - set(listed))
        by = self.row_splits
        if by.column is not None:
            own = rows["train"]
            column = self._column([train[row] for row in own], cells)
            others = {split: [train[row] for row in some] for split, some in rows.items()} | files
            for split in sorted(others.keys() - {"train"}) if by.group else ():
                other = self._column(others[split], cells)
                if line := by.shared(column, "train", other, split):
                    logger.warning("%s", line)
            given = "test" in rows or "test" in files
            parts = by.parts(
                column,
                torch.from_numpy(classes[own]),
                None if given else self.test,
                () if self.multilabel else self.class_names,
            )
            if twice := (parts.keys() - {"train"}) & (rows.keys() | files.keys()):
                raise ValueError(f"column {by.column!r} names the split {min(twice)!r}, too")
            for split, part in parts.items():
                rows[split] = own if part is None else [own[row] for row in part.tolist()]
        found = {split: [train[row] for row in rows[split]] for split in sorted(rows)}
        return {**files, **found}, {**targets, **{s: classes[own] for s, own in rows.items()}}

    def _column(
        self, images: Sequence[Path], cells: Mapping[Path, tuple[int, str]]
    ) -> Numbers | Texts:
        """What these images have in the column that splits them."""
        return self.row_splits.of_cells(
            str(self.labels),
            [cells[image][1] for image in images],
            lambda row: cells[images[row]][0],
        )

    def _key(
        self, files: Files, targets: Targets
    ) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        key: dict[str, Any] = {"source": "folder", "path": str(self.path.absolute())}
        splits = {}
        for split, paths in files.items():
            key[split] = [(str(path), *state(path)) for path in paths]
            key[f"{split} targets"] = hashlib.sha256(targets[split].tobytes()).hexdigest()
            groups = None
            if split == "train" and self.row_splits.groups is not None:
                groups = self.row_splits.groups.numpy()
                key["groups"] = hashlib.sha256(groups.tobytes()).hexdigest()
            splits[split] = EncodedImages(
                [str(path) for path in paths], targets[split], paths.__getitem__, groups
            )
        return key, splits

    def _from_table(self, table: Path) -> tuple[Files, Targets, Mapping[Path, tuple[int, str]]]:
        """Files and targets of each split, as a table has them; line and cell of each file."""
        images = image_files(self.path, self.unused)
        labels, cells = read_labels(table, self.path, images, self.unused, self.row_splits.column)
        self.multilabel = is_multilabel(labels)
        if not self.multilabel:
            labels = with_one(labels, table, self.unused)
        whole = {"train": list(labels)}
        files = whole if self.row_splits.given else by_split(labels, self.path)
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
        return files, targets, cells

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
