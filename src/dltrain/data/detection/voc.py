"""Boxes as PASCAL VOC has them: an XML file an image."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.paths import FilePath
from dltrain.data.detection.annotations import Annotated, Box, Findings
from dltrain.data.detection.source import SPLITS, DetectionSource
from dltrain.data.detection.xml_text import Element, XmlError, read_xml
from dltrain.data.images.listing import image_files
from dltrain.errors import UserError
from dltrain.files import lines_of

logger = logging.getLogger(__name__)

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LESS = re.compile(r"(.*\S)\s+\S+")
"""A line of a list without its last word."""
LISTS = {"train": "train", "validation": "val", "test": "test"}
"""The files of ``ImageSets/Main`` that are read as splits, without their ``.txt``."""


class Voc(DetectionSource):
    """``path`` with ``Annotations``, ``JPEGImages`` and ``ImageSets/Main``, as PASCAL VOC has it.

    Without these folders: XML files beside their images, at any depth, as labelImg writes them. An
    XML file belongs to the image of the same name; where there is none, to that of its
    ``filename``. ``splits`` say which lists are which split, ``{train: trainval, test: test}``,
    several as a list; null: train, val and test, as far as they are there. Without lists, ``test``
    is set aside. ``difficult`` says whether objects marked so count like others; else they are
    neither trained on nor counted. ``first_pixel`` is the coordinate of the first pixel: 1 in
    PASCAL's own files, 0 in those of labelImg.
    """

    def __init__(
        self,
        path: FilePath,
        splits: Mapping[str, str | Sequence[str]] | None = None,
        difficult: bool = True,
        first_pixel: int = 0,
        **common: Any,
    ) -> None:
        super().__init__(path=path, **common)
        for name in splits or ():
            if name not in SPLITS:
                raise ValueError(
                    f"splits: there is no split {name!r}. {did_you_mean(name, SPLITS)} "
                    f"They are {', '.join(SPLITS)}.".replace("  ", " ")
                )
        if splits is not None and "train" not in splits:
            raise ValueError("splits names no list for train")
        if first_pixel not in (0, 1):
            raise ValueError(f"first_pixel is 0 or 1, got {first_pixel}")
        self.lists = {
            name: [lists] if isinstance(lists, str) else list(lists)
            for name, lists in (splits or {}).items()
        }
        self.difficult, self.first_pixel = difficult, first_pixel

    def annotated(self, findings: Findings) -> dict[str, list[Annotated]]:
        folder = self.path / "Annotations"
        standard = folder.is_dir()
        images = self.path / "JPEGImages" if standard else self.path
        if not images.is_dir():
            raise ValueError(f"{self.path} has Annotations, but no folder JPEGImages")
        by_stem: dict[tuple[Path, str], list[Path]] = {}
        by_name: dict[tuple[Path, str], Path] = {}
        for image in image_files(images, self.unused):
            by_stem.setdefault((image.parent, image.stem), []).append(image)
            by_name[image.parent, image.name] = image
        there_are = folder.iterdir() if standard else self.path.rglob("*")
        files = sorted(file for file in there_are if file.suffix.lower() == ".xml")
        if not files:
            raise ValueError(f"{folder if standard else self.path} has no XML file")
        stems = {file.stem for file in files}
        wanted = self._wanted(stems) if standard or self.lists else None
        names = {name: split for split, some in (wanted or {}).items() for name in some}
        found: dict[str, list[Annotated]] = {split: [] for split in wanted or ("train",)}
        there = set()
        for file in files:
            split = names.get(file.stem) if wanted is not None else "train"
            there.add(file.stem)
            if split is None:
                findings.left_out.add("annotations in no list of data.splits", file.name)
                continue
            one = self._read(file, images if standard else file.parent, by_stem, by_name, findings)
            if one is not None:
                found[split].append(one)
        used = {one.image for some in found.values() for one in some}
        for image in by_name.values():
            others = by_stem[image.parent, image.stem]
            if image not in used and (image.stem not in there or used.intersection(others)):
                self.unused.add("images without an annotation", image.name, images=True)
        if missing := [name for name in names if name not in there]:
            where = self.path / "ImageSets" / "Main" / f"{self._list_of(names[missing[0]])[0]}.txt"
            raise UserError(
                f"{where}: {len(missing):,} names have no file in {folder}, {missing[0]!r} for one."
            )
        return found

    def _list_of(self, split: str) -> list[str]:
        return self.lists.get(split) or [LISTS[split]]

    def _wanted(self, stems: Collection[str]) -> dict[str, list[str]] | None:
        """The names of each split, of annotations called ``stems``; None where nobody says them."""
        place = self.path / "ImageSets" / "Main"
        found: dict[str, list[str]] = {}
        for split in SPLITS:
            for name in self.lists.get(split, [] if self.lists else [LISTS[split]]):
                file = place / f"{name}.txt"
                if file.is_file():
                    found.setdefault(split, []).extend(_names(lines_of(file), stems))
                elif self.lists:
                    there = sorted(path.stem for path in place.glob("*.txt"))
                    hint = did_you_mean(name, there) or f"There are {', '.join(there[:8])}."
                    raise ValueError(f"splits.{split}: there is no file {file}. {hint}")
        if not found:
            return None
        if "train" not in found:
            raise ValueError(
                f"{place} has no train.txt: say which list is trained on, "
                "data.splits.train=trainval"
            )
        owners: dict[str, str] = {}
        for split, names in found.items():
            for name in names:
                if owners.setdefault(name, split) != split:
                    raise UserError(
                        f"{place}: {name!r} is listed for {owners[name]} and for {split}."
                    )
        for names in found.values():
            for name, count in Counter(names).items():
                if count > 1:
                    self.unused.add("more lines of a name in its list", name, count - 1)
        return {split: list(dict.fromkeys(names)) for split, names in found.items()}

    def _read(
        self,
        file: Path,
        images: Path,
        by_stem: Mapping[tuple[Path, str], Sequence[Path]],
        by_name: Mapping[tuple[Path, str], Path],
        findings: Findings,
    ) -> Annotated | None:
        try:
            root = read_xml(file)
        except XmlError as error:
            place, _, why = str(error).rpartition(": ")
            findings.fault(place, why)
            return None
        if root.tag != "annotation":
            findings.fault(f"{file}, line {root.line}", f"is <{root.tag}>, and no <annotation>")
            return None
        named = root.find("filename")
        same = by_stem.get((images, file.stem), [])
        image = same[0] if same else None
        if len(same) != 1 and named is not None:
            # Of a path on somebody's machine, the name: it leads out of no folder.
            name = PurePosixPath(PureWindowsPath(named.text).name).name
            image = by_name.get((images, name))
        if len(same) > 1 and image not in same:
            findings.fault(
                str(file),
                f"may be of {' or '.join(one.name for one in same)}: name it as <filename>",
            )
            return None
        if image is None:
            findings.left_out.add("annotations without their image", file.name)
            return None
        boxes = [self._box(file, one, findings) for one in root.all("object")]
        return Annotated(
            image, _size(root, file, findings), [box for box in boxes if box is not None], str(file)
        )

    def _box(self, file: Path, element: Element, findings: Findings) -> Box | None:
        place = f"{file}, line {element.line}"
        name, box = element.find("name"), element.find("bndbox")
        if name is None or not name.text:
            findings.fault(place, "an object has no <name>")
            return None
        if box is None:
            findings.fault(place, f"the object {name.text!r} has no <bndbox>")
            return None
        corners = []
        for key in CORNERS:
            side = box.find(key)
            try:
                corners.append(float(side.text if side is not None else "missing"))
            except ValueError:
                said = "no number" if side is not None else "missing"
                line = side.line if side is not None else box.line
                findings.fault(f"{file}, line {line}", f"<{key}> is {said}")
                return None
        left, top, right, bottom = corners
        # A box from pixel 1 to pixel 1 is one pixel wide, where the first one is 1.
        start = self.first_pixel
        difficult = element.find("difficult")
        ignored = not self.difficult and difficult is not None and difficult.text == "1"
        return Box(
            name.text, left - start, top - start, right, bottom, f"{file}, line {box.line}", ignored
        )


def _size(root: Element, file: Path, findings: Findings) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    sides = [size.find(key) for key in ("width", "height")]
    try:
        width, height = (int(float(side.text)) if side is not None else 0 for side in sides)
    except (ValueError, OverflowError):
        findings.fault(f"{file}, line {size.line}", "<size> has sides that are no numbers")
        return None
    return width, height


def _names(lines: Iterable[str], stems: Collection[str]) -> Iterable[str]:
    """What each line names, which is one of ``stems`` if it can be.

    That is all of it, or what stands before a number or more: lists of one class say whether it is
    there.
    """
    for line in map(str.strip, lines):
        name = line
        while name not in stems and (rest := LESS.fullmatch(name)) is not None:
            name = rest[1]
        if line:
            yield name if name in stems else line.split()[0]
