"""Images with boxes, whatever files these are in."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.data import DataSpec, Field, Reader
from dltrain.contracts.paths import FilePath
from dltrain.data.cache import EncodedImages, Stored, decoded, made_once, state
from dltrain.data.detection.annotations import Annotated, Findings, checked_boxes, names_of
from dltrain.data.detection.augment import BoxAugment
from dltrain.data.detection.placement import placement
from dltrain.data.detection.reader import DetectionReader
from dltrain.data.detection.split import BoxSplit
from dltrain.data.images.decode import Fit, Shape, UnreadableError
from dltrain.data.images.decoded import GIB, DecodedImages
from dltrain.data.images.listing import Unused
from dltrain.data.images.survey import read_header
from dltrain.data.images.tally import warnings, what_was_read
from dltrain.data.streams.division import Division, hold_out_test
from dltrain.data.streams.in_memory import InMemory, Split
from dltrain.data.streams.on_disk import InFiles
from dltrain.data.streams.ragged import Ragged
from dltrain.errors import UserError

logger = logging.getLogger(__name__)

ALL = "train"
"""What all images are called while they are decoded: one split of the cache."""
SPLITS = ("train", "validation", "test")
LISTED = 30
"""Classes whose boxes are counted in the first words of a run."""


class DetectionSource(DecodedImages):
    """Images in ``path``, made alike, with the boxes that :meth:`annotated` reads.

    ``classes`` are those to use, in this order; null: all. Boxes of others, boxes without area and
    boxes outside of their image are left out and counted; those that reach over its border are
    clipped. Corners in the wrong order and the like are refused, by file and line, or with
    ``skip_faulty`` left out and counted. Images without a box are used: there is nothing in them.

    Columns are ``boxes`` (n, 4), left, top, right, bottom in pixels of the input, ``labels`` and
    ``ignored`` (n,), padded, with their lengths; ``image_size`` (height, width of the file), and
    ``placement`` (4): where the file's pixels lie in the input
    (:class:`~dltrain.data.detection.placement.Placement`).
    """

    def __init__(
        self,
        path: FilePath,
        classes: Sequence[str] | None = None,
        skip_faulty: bool = False,
        fit: Fit = "pad",
        batch_size: int = 8,
        validation: float = 0.1,
        augment: BoxAugment | None = None,
        **decoding: Any,
    ) -> None:
        self.path = Path(path).expanduser()
        self.classes = None if classes is None else tuple(classes)
        if self.classes is not None and len(set(self.classes)) < max(1, len(self.classes)):
            raise ValueError(f"classes are one or more different ones, got {list(self.classes)}")
        self.skip_faulty = skip_faulty
        for name in ("balance", "stratify"):
            if decoding.get(name):
                raise ValueError(f"{name} is for data with one class an image")
        super().__init__(
            fit=fit,
            batch_size=batch_size,
            validation=validation,
            augment=augment or BoxAugment(),
            **decoding,
        )

    @property
    def place(self) -> str:
        """The folder."""
        return str(self.path)

    @abstractmethod
    def annotated(self, findings: Findings) -> dict[str, list[Annotated]]:
        """The images of ``train``, and of ``validation`` and ``test`` where they are given.

        It sets ``class_names`` where the files say which classes there are. Raises
        :class:`ValueError` or :class:`UserError` for files that are none of these.
        """

    def files(self) -> tuple[dict[str, Any], Mapping[str, EncodedImages]]:
        raise NotImplementedError("boxes are read with their images: see splits()")

    def splits(self) -> dict[str, Split]:
        assert self.root is not None
        if not self.path.is_dir():
            raise ValueError(f"{self.path} is no folder")
        self.unused = Unused()
        findings = Findings()
        self.class_names = ()
        given = self.annotated(findings)
        self.class_names = self._chosen(given)
        places = {
            path: place
            for place, path in enumerate(
                dict.fromkeys(one.image for images in given.values() for one in images)
            )
        }
        shape, stored = self._decoded(list(places))
        rows = {int(row): place for place, row in enumerate(np.load(stored.files["target"]))}
        sizes = self._sizes(list(places))
        found: dict[str, Split] = {}
        for name, images in given.items():
            kept = [one for one in images if places[one.image] in rows]
            numbers = [places[one.image] for one in kept]
            found[name] = self._split(
                kept,
                np.array([rows[number] for number in numbers], np.int64),
                sizes[numbers],
                (shape, stored),
                findings,
            )
        findings.settle(self.skip_faulty)
        if "test" not in found:
            found["train"], found["test"] = self._with_test(found["train"])
        self._say_boxes(shape, stored, found, findings)
        for name, split in found.items():
            if not len(split):
                raise UserError(f"data: no image is left for the split {name!r}.")
        return found

    def outline(self) -> DataSpec:
        names = tuple(self.class_names)
        size = len(names) or None
        fields = {
            "input": Field(self.input_shape, "image", "input", mean=self.mean, std=self.std),
            "boxes": Field((None, 4), "boxes", "target", fill=0.0),
            "labels": Field((None,), "class", "target", size=size, names=names, fill=0),
            "ignored": Field((None,), "number", "other", fill=0),
            "image_size": Field((2,), "number", "other", names=("height", "width")),
            "placement": Field((4,), "number", "other"),
        }
        return DataSpec(fields, complete=bool(names) and None not in self.input_shape)

    def spec(self, splits: Mapping[str, Split]) -> DataSpec:
        """How many boxes of each class there are to train on included."""
        fields = dict(self.outline().fields)
        counts = _counts(splits["train"], len(self.class_names))
        if not sum(counts):
            rest = " but those that are ignored" if _ignored(splits["train"]) else ""
            raise ValueError(
                f"{self.path}: no training image has a box{rest}: there is nothing to learn"
            )
        fields["labels"] = replace(fields["labels"], counts=tuple(counts))
        return DataSpec(fields)

    def division(self, train: Split) -> Division:
        """Images are divided alike likely, whatever is in them."""
        return Division()

    def reader(self) -> Reader:
        channels, height, width = self.input_shape
        assert channels and height and width, "read() comes first"
        return DetectionReader(
            channels, height, width, self.mean, self.std, self.fit, window=self.window
        )

    def labeled(self, split: str | None) -> NoReturn:
        """Raises :class:`UserError`."""
        raise UserError(
            "data: another run's detections are not evaluated on this data; evaluate it on its own."
        )

    def paths(self) -> list[Path]:
        """The folder: images and annotations."""
        return [self.path]

    def _chosen(self, given: Mapping[str, Sequence[Annotated]]) -> tuple[str, ...]:
        """The classes to use."""
        there = list(self.class_names) or names_of(one for some in given.values() for one in some)
        if not there:
            raise ValueError(f"{self.path}: no image has a box")
        if self.classes is None:
            trained = set(names_of(given["train"]))
            for split, images in given.items():
                for name in sorted(set(names_of(images)) - trained):
                    logger.warning(
                        "The %s split has boxes of %r, of which none is in training: "
                        "it cannot be learned.",
                        *(split, name),
                    )
            return tuple(there)
        for name in self.classes:
            if name not in there:
                hint = did_you_mean(name, there)
                raise ValueError(
                    f"{self.path} has no class {name!r}, which data.classes names. {hint} "
                    f"It has {', '.join(there)}.".replace("  ", " ")
                )
        return self.classes

    def _decoded(self, files: list[Path]) -> tuple[Shape, Stored]:
        """All images, made alike: ``target`` of the result are their places among ``files``."""
        if not files:
            raise ValueError(f"{self.path}: there is no image with an annotation")
        key = {"source": "boxes", "files": [(str(file), *state(file)) for file in files]}
        images = EncodedImages(
            [str(file) for file in files], np.arange(len(files)), files.__getitem__
        )
        shape, stored = decoded(
            self._cache, key, self._asked, {ALL: images}, self.skip_unreadable, self._take_shape
        )
        # Boxes are moved as images were: those of one size are as they were.
        return (shape if shape.fit is not None else replace(shape, fit="stretch")), stored[ALL]

    @property
    def _cache(self) -> Path:
        return Path(str(self.root)).expanduser() / "cache"

    def _sizes(self, files: list[Path]) -> np.ndarray[Any, Any]:
        """Width and height (files, 2) of each image, upright; 0 of what is none."""

        def make(place: Path) -> None:
            sizes = np.zeros((len(files), 2), np.int64)
            for row, file in enumerate(files):
                try:
                    header = read_header(file)
                except UnreadableError:
                    continue
                sizes[row] = header.width, header.height
            np.save(place / "sizes.npy", sizes)

        settings = ["sizes", [(str(file), *state(file)) for file in files]]
        folder = made_once(self._cache, settings, make, "the images' sizes")
        return np.asarray(np.load(folder / "sizes.npy"))

    def _split(
        self,
        images: Sequence[Annotated],
        rows: np.ndarray[Any, Any],
        sizes: np.ndarray[Any, Any],
        made: tuple[Shape, Stored],
        findings: Findings,
    ) -> BoxSplit:
        shape, stored = made
        placements = [placement(int(w), int(h), shape) for w, h in sizes]
        classes = {name: place for place, name in enumerate(self.class_names)}
        inside = (shape.width, shape.height)
        whole = [(int(w), int(h)) for w, h in sizes]
        boxes = checked_boxes(images, whole, placements, inside, classes, findings)
        chosen = torch.from_numpy(rows[boxes.used])
        lengths = torch.from_numpy(boxes.counts[boxes.used])
        ragged = {
            "boxes": Ragged.joined(_ended(boxes.corners), lengths, 0.0),
            "labels": Ragged.joined(_ended(boxes.labels), lengths, 0),
            "ignored": Ragged.joined(_ended(boxes.ignored), lengths, False),
        }
        columns = {
            "image_size": torch.from_numpy(sizes[boxes.used][:, ::-1].copy()),
            "placement": torch.tensor(placements, dtype=torch.float32).view(-1, 4)[
                torch.from_numpy(boxes.used)
            ],
        }
        streamed = stored.files["input"].stat().st_size > self.memory_limit * GIB
        pixels: InMemory | InFiles
        if streamed:
            pixels = InFiles(stored.files, chosen, self.workers)
        else:
            array = np.load(stored.files["input"], mmap_mode="r")[chosen.numpy()]
            pixels = InMemory({"input": torch.from_numpy(array), "target": chosen})
        return BoxSplit(pixels, ragged, columns)

    def _with_test(self, train: Split) -> tuple[Split, Split]:
        rows, test = hold_out_test(torch.zeros(len(train)), self.test)
        logger.info(
            "no test split is given: %s of %s images are set aside as one, the same for every "
            "seed.",
            *(f"{len(test):,}", f"{len(train):,}"),
        )
        return train.only(rows), train.only(test)

    def _say_boxes(
        self, shape: Shape, stored: Stored, splits: Mapping[str, Split], findings: Findings
    ) -> None:
        """The first words of a run: what was read, and what was left out."""
        names = self.class_names
        counts = {name: _counts(split, len(names)) for name, split in splits.items()}
        total = [sum(numbers) for numbers in zip(*counts.values(), strict=True)]
        images = sum(map(len, splits.values()))
        lengths = [_boxes(split, "labels").lengths for split in splits.values()]
        empty = sum(int((one == 0).sum()) for one in lengths)
        ignored = sum(map(_ignored, splits.values()))
        some = ", ".join(f"{n} {c:,}" for n, c in zip(names, total, strict=True))
        listed = f": {some}" if len(names) <= LISTED else ""
        kinds = "class" if len(names) == 1 else "classes"
        lines = [
            f"{self.place}: {images:,} images, {sum(total):,} boxes of {len(names)} {kinds}{listed}"
        ]
        if ignored:
            lines.append(
                f"{ignored:,} more are ignored: what is found in them is neither right nor wrong"
            )
        if empty:
            lines.append(f"{empty:,} images have no box: there is nothing to be found in them")
        lines.append(f"read: {what_was_read([stored.tally], shape)}")
        logger.info("%s", "\n  ".join(lines))
        for what, found, level in (
            ("boxes changed", findings.changed, logging.INFO),
            ("not used", findings.left_out, logging.WARNING),
            ("not used", self.unused, logging.WARNING if self.unused.images else logging.INFO),
        ):
            if found.counts:
                logger.log(level, "%s: %s", what, found)
        for split, numbers in counts.items():
            none = [name for name, number in zip(names, numbers, strict=True) if not number]
            if none:
                logger.warning("The %s split has no box of %s.", split, ", ".join(none[:5]))
        for line in warnings({"the images": stored.tally}, shape):
            logger.warning("%s", line)


def _ended(values: np.ndarray[Any, Any]) -> torch.Tensor:
    """With a row of zeros at the end: of no box at all, too, something can be gathered."""
    return torch.from_numpy(
        np.concatenate([values, np.zeros_like(values, shape=(1, *values.shape[1:]))])
    )


def _boxes(split: Split, name: str) -> Ragged:
    assert isinstance(split, BoxSplit)
    return split.ragged[name]


def _counts(split: Split, classes: int) -> list[int]:
    """How many boxes of each class there are, those that are ignored not among them."""
    labels, ignored = _boxes(split, "labels"), _boxes(split, "ignored")
    places = _places(labels, len(split))
    found = labels.values[places][~ignored.values[places].bool()]
    return [int(count) for count in found.bincount(minlength=classes)]


def _ignored(split: Split) -> int:
    """How many regions there are of which nothing is said."""
    ignored = _boxes(split, "ignored")
    return int(ignored.values[_places(ignored, len(split))].sum())


def _places(column: Ragged, rows: int) -> torch.Tensor:
    """Where the values of its rows lie."""
    every = torch.arange(int(column.lengths.max()) if rows else 0)
    real = every < column.lengths[:, None]
    return (column.starts[:, None] + every)[real]
