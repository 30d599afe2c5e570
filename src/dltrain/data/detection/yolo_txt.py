"""Boxes as YOLO's trainers read them: a text file an image, a line a box."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dltrain.contracts.paths import FilePath
from dltrain.data.detection.annotations import Annotated, Box, Findings
from dltrain.data.detection.source import DetectionSource
from dltrain.data.images.listing import image_files
from dltrain.errors import UserError
from dltrain.files import read_text

FOLDERS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
"""What a split's folder may be called."""
ENDING = ".txt"
"""Of label files, in any case."""
NAMES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
"""Files that may say what the classes are called, beside ``labels/classes.txt``."""
LARGEST = 1 << 24
MOST = 10_000
"""Classes that may be known by their numbers alone: a number that is mistyped makes no network."""
BEYOND = 0.01
"""By how much a fraction may be outside of 0 to 1: some tools round so."""


class YoloTxt(DetectionSource):
    """Lines ``class x y width height``, the box's center and sides as fractions of the image's.

    A label file is called as its image is, with ``.txt``: in the folder labels beside images
    (``images/train``, ``labels/train``, or ``train/images``, ``train/labels``), or beside its
    image. An image without one has no box. A line of more numbers is a polygon, whose enclosing
    box is taken. ``names`` is a file of the classes' names: a line each, or YAML with a list or
    mapping ``names``; null: data.yaml, classes.txt or obj.names in ``path``, or the numbers.
    """

    def __init__(self, path: FilePath, names: FilePath | None = None, **common: Any) -> None:
        super().__init__(path=path, **common)
        self.names_file = None if names is None else Path(names).expanduser()

    def annotated(self, findings: Findings) -> dict[str, list[Annotated]]:
        names = self._names()
        found = {}
        for split, (images, labels) in self._folders().items():
            found[split] = list(self._labeled(images, labels, names, findings))
            if not found[split]:
                raise ValueError(f"{images} has no image")
        if names:
            self.class_names = tuple(names.values())
        else:  # the numbers, none left out: class 2 is the third
            named = {int(box.name) for some in found.values() for one in some for box in one.boxes}
            self.class_names = tuple(map(str, range(max(named, default=-1) + 1)))
        return found

    def paths(self) -> list[Path]:
        return [self.path, *([] if self.names_file is None else [self.names_file])]

    def _folders(self) -> dict[str, tuple[Path, Path]]:
        """Of each split where its images are, and their labels."""
        found: dict[str, tuple[Path, Path]] = {}
        for split, words in FOLDERS.items():
            for word in words:
                for layout, beside in (("images/{}", "labels/{}"), ("{}/images", "{}/labels")):
                    place = self.path / layout.format(word)
                    if place.is_dir():
                        if split in found:
                            raise ValueError(
                                f"{found[split][0]} and {place} may both be the {split} split"
                            )
                        found[split] = place, self.path / beside.format(word)
        if found and "train" not in found:
            raise ValueError(f"{self.path} has no images/train or train/images")
        if found:
            return found
        images, labels = self.path / "images", self.path / "labels"
        if images.is_dir() and labels.is_dir():
            return {"train": (images, labels)}
        return {"train": (self.path, self.path)}

    def _labeled(
        self, images: Path, labels: Path, names: Mapping[int, str], findings: Findings
    ) -> Iterator[Annotated]:
        if not labels.is_dir():
            raise ValueError(f"there is no folder {labels} for the images in {images}")
        known = {path.name for path in (self.names_file,) if path is not None} | set(NAMES)
        files: dict[Path, Path] = {}
        for path in sorted(labels.rglob("*")):
            if path.suffix.lower() == ENDING:
                other = files.setdefault(path.relative_to(labels).with_suffix(""), path)
                if other is not path:
                    findings.fault(str(path), f"is called as {other.name} is: leave one there")
        left = {stem for stem, file in files.items() if file.name not in known}
        owners: dict[Path, Path] = {}
        for image in image_files(images, self.unused):
            stem = image.relative_to(images).with_suffix("")
            file = files.get(stem)
            left.discard(stem)
            owner = owners.setdefault(stem, image)
            if owner is not image and file is not None:
                findings.fault(
                    str(file), f"may be of {owner.name} or {image.name}: leave one there"
                )
                continue
            boxes = [] if file is None else list(_boxes(file, names, findings))
            yield Annotated(image, None, boxes, str(file or labels / f"{stem}{ENDING}"))
        for stem in sorted(left):
            name = str(files[stem].relative_to(labels))
            findings.left_out.add("labels without an image", name)

    def _names(self) -> dict[int, str]:
        """Names by number; empty where nobody says them."""
        if self.names_file is not None:
            return _read_names(self.names_file)
        for place in (self.path, self.path / "labels"):
            for name in NAMES:
                if (place / name).is_file():
                    return _read_names(place / name)
        return {}


def _read_names(path: Path) -> dict[int, str]:
    """Names by number, from 0 on without a gap. Raises :class:`UserError` for what is none."""
    try:
        text = read_text(path, 1 << 20, "utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}.") from error
    if path.suffix.lower() in (".yaml", ".yml"):
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            line = getattr(getattr(error, "problem_mark", None), "line", -1) + 1
            raise UserError(f"{path}, line {line}: is no YAML.") from error
        found = content.get("names") if isinstance(content, dict) else None
    else:
        found = [line.strip() for line in text.splitlines() if line.strip()]
    names = dict(enumerate(found)) if isinstance(found, list) else found
    plain = isinstance(names, dict) and all(isinstance(n, (str, int)) for n in names.values())
    if not plain or not names:
        raise UserError(f"{path} has no names of classes.")
    if set(names) != set(range(len(names))):
        raise UserError(f"{path}: its names are not numbered from 0 to {len(names) - 1}.")
    named = {number: str(names[number]) for number in range(len(names))}
    (name, count), *_ = Counter(named.values()).most_common(1)
    if count > 1:
        raise UserError(f"{path}: the name {name!r} stands twice.")
    return named


def _boxes(file: Path, names: Mapping[int, str], findings: Findings) -> Iterator[Box]:
    try:
        lines = read_text(file, LARGEST, "utf-8-sig").splitlines()
    except UnicodeDecodeError:
        findings.fault(str(file), "is no text in UTF-8")
        return
    except OSError as error:
        findings.fault(str(file), str(error.strerror))
        return
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        place = f"{file}, line {number}"
        try:
            values = [float(word) for word in words]
        except ValueError:
            findings.fault(place, f"is no list of numbers: {line[:60]!r}")
            continue
        polygon = len(values) >= 7 and len(values) % 2 == 1
        if len(values) != 5 and not polygon:
            findings.fault(place, f"has {len(values)} numbers, and a box is class x y width height")
            continue
        one, *numbers = values
        name = _name(one, names)
        if name is None:
            known = (
                f"there are 0 to {len(names) - 1}"
                if names
                else f"it is a number from 0 to {MOST - 1:,}; a file of names allows more"
            )
            findings.fault(place, f"there is no class {one:g}: {known}")
            continue
        if max(numbers) > 1 + BEYOND or min(numbers) < -BEYOND:
            # The sides of a box that reaches over a border are fractions still.
            findings.fault(place, f"has numbers that are no fractions from 0 to 1: {line[:60]!r}")
            continue
        if polygon:
            findings.changed.add("polygons, of which the enclosing box is taken", place)
            x, y = numbers[0::2], numbers[1::2]
            yield Box(name, min(x), min(y), max(x), max(y), place, fractions=True)
        else:
            x_center, y_center, width, height = numbers
            yield Box(
                name,
                x_center - width / 2,
                y_center - height / 2,
                x_center + width / 2,
                y_center + height / 2,
                place,
                fractions=True,
            )


def _name(number: float, names: Mapping[int, str]) -> str | None:
    if not (math.isfinite(number) and number == int(number)):
        return None
    if names:
        return names.get(int(number))
    return str(int(number)) if 0 <= number < MOST else None
