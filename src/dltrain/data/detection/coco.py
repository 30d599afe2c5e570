"""Boxes as COCO has them: one JSON file for all images of a split."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from dltrain.config.suggest import did_you_mean
from dltrain.contracts.paths import FilePath
from dltrain.data.detection.annotations import Annotated, Box, Findings
from dltrain.data.detection.source import SPLITS, DetectionSource
from dltrain.errors import UserError
from dltrain.files import read_text

LARGEST = 1 << 30
"""Bytes of one split's annotations; COCO's own have half of that."""
WORDS = {"train": "train", "validation": "val", "test": "test"}
"""What a split is called in the names of files and folders."""


class Coco(DetectionSource):
    """JSON files of ``images``, ``annotations`` and ``categories``, and images below ``path``.

    ``annotations`` is one such file, or one a split, ``{train: a.json, validation: b.json}``; null:
    those in the folder ``annotations``, or in folders called train, val and test, or in ``path``,
    whose names say which split they are. Images are looked for beside the file, in ``path``, in its
    folder images, and in those called after the split or the file. Images that are not there are
    left out and counted. Crowds (``iscrowd``) are neither trained on nor counted.
    """

    def __init__(
        self,
        path: FilePath,
        annotations: FilePath | Mapping[str, FilePath] | None = None,
        **common: Any,
    ) -> None:
        super().__init__(path=path, **common)
        given = {"train": annotations} if isinstance(annotations, str) else dict(annotations or {})
        for name in given:
            if name not in SPLITS:
                raise ValueError(
                    f"annotations: there is no split {name!r}. {did_you_mean(name, SPLITS)} "
                    f"They are {', '.join(SPLITS)}.".replace("  ", " ")
                )
        if given and "train" not in given:
            raise ValueError("annotations names no file for train")
        self.annotations = {name: Path(str(f)).expanduser() for name, f in given.items()}

    def annotated(self, findings: Findings) -> dict[str, list[Annotated]]:
        files = self.annotations or self._found()
        read = {split: _File(file, split, self.path) for split, file in files.items()}
        classes = dict.fromkeys(name for one in read.values() for name in one.classes.values())
        self.class_names = tuple(classes)
        found = {}
        for split, one in read.items():
            found[split] = list(one.images(findings))
            if not found[split]:
                raise UserError(
                    f"{one.path}: none of its {one.count:,} images is there; "
                    f"{one.first!r} was looked for in {', '.join(map(str, one.folders))}."
                )
        return found

    def paths(self) -> list[Path]:
        return [self.path, *self.annotations.values()]

    def _found(self) -> dict[str, Path]:
        """The files that look like a split's."""
        places = [self.path / "annotations", self.path]
        places += [path for path in sorted(self.path.iterdir()) if path.is_dir()]
        files = [
            file
            for place in dict.fromkeys(places)
            if place.is_dir()
            for file in sorted(place.glob("*.json"))
            # COCO's own come with files for other tasks.
            if not file.name.startswith(("captions_", "person_keypoints_", "image_info_"))
        ]
        if len(files) == 1:
            return {"train": files[0]}
        found: dict[str, Path] = {}
        for file in files:
            about = f"{file.parent.name if file.parent != self.path else ''}/{file.stem}".lower()
            for split, word in WORDS.items():
                if word not in about:
                    continue
                if split in found:
                    raise ValueError(
                        f"{found[split]} and {file} may both be of the {split} split: say which, "
                        f"data.annotations={{train: FILE, {split}: FILE}}"
                    )
                found[split] = file
                break
        if "train" not in found:
            seen = ", ".join(file.name for file in files[:5]) or "no JSON file"
            raise ValueError(
                f"{self.path} has no annotations that are called train, but {seen}: "
                "data.annotations={train: FILE}"
            )
        return found


class _File:
    """One split's file: ``classes`` by id, in the file's order. Raises :class:`UserError`."""

    def __init__(self, path: Path, split: str, root: Path) -> None:
        self.path = path
        try:
            content = json.loads(read_text(path, LARGEST, "utf-8-sig"))
        except RecursionError as error:
            raise UserError(f"{path}: nested too deeply.") from error
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {error.lineno}: is no JSON: {error.msg}.") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is no text in UTF-8.") from error
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}.") from error
        if not isinstance(content, dict):
            raise UserError(f"{path} is no COCO file: it holds no object.")
        self._lists = {
            key: self._objects(content, key) for key in ("images", "annotations", "categories")
        }
        self.classes = self._named("categories", "name")
        self._files = self._named("images", "file_name")
        stem = path.stem.removeprefix("instances_")
        word = WORDS[split]
        folders = [path.parent, root, root / "images"]
        folders += [p / n for p in (root, root / "images") for n in (word, split, stem)]
        self.folders = [folder for folder in dict.fromkeys(folders) if folder.is_dir()]

    @property
    def count(self) -> int:
        """Images that it lists."""
        return len(self._files)

    @property
    def first(self) -> str:
        """The first of them."""
        return next(iter(self._files.values()), "")

    def images(self, findings: Findings) -> Iterator[Annotated]:
        """Those that are there, with their boxes."""
        boxes: dict[Any, list[Box]] = {number: [] for number in self._files}
        seen: dict[Any, int] = {}
        for place, one in enumerate(self._lists["annotations"]):
            where = f"{self.path}, annotations[{place}]"
            number = one.get("id")
            if number is not None and _hashable(number):
                if number in seen:
                    findings.fault(where, f"has the id {number!r} of annotations[{seen[number]}]")
                    continue
                seen[number] = place
            image = one.get("image_id")
            if not _hashable(image) or image not in boxes:
                findings.left_out.add("boxes of images that are not listed", where)
                continue
            box = self._box(one, where, findings)
            if box is not None:
                boxes[image].append(box)
        for place, one in enumerate(self._lists["images"]):
            number = one["id"]
            file = self._find(self._files[number], place)
            if file is None:
                findings.left_out.add("images that are not there", self._files[number])
                continue
            sides = one.get("width"), one.get("height")
            whole = all(isinstance(side, int) for side in sides)
            size = (int(sides[0] or 0), int(sides[1] or 0)) if whole else None
            yield Annotated(file, size, boxes[number], f"{self.path}, images[{place}]")

    def _find(self, name: str, place: int) -> Path | None:
        """Where an image is. Raises :class:`UserError` for a name that leads out of the folders."""
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(
                f"{self.path}, images[{place}]: the file name {name!r} leads out of the folder."
            )
        return next((f / name for f in self.folders if (f / name).is_file()), None)

    def _box(self, one: Mapping[str, Any], where: str, findings: Findings) -> Box | None:
        category = one.get("category_id")
        name = self.classes.get(category) if _hashable(category) else None
        if name is None:
            findings.fault(where, f"its category_id {category!r} is none of the categories")
            return None
        values = one.get("bbox")
        numbers = isinstance(values, list) and len(values) == 4
        if not numbers or not all(_is_number(value) for value in values or ()):
            findings.fault(where, f"its bbox is no [left, top, width, height]: {values!r}")
            return None
        left, top, width, height = map(float, values or ())
        crowd = one.get("iscrowd", 0)
        if crowd not in (0, 1, None):  # False and True are
            findings.fault(where, f"its iscrowd is neither 0 nor 1: {crowd!r}")
            return None
        return Box(name, left, top, left + width, top + height, where, bool(crowd))

    def _objects(self, content: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
        found = content.get(key)
        if not isinstance(found, list):
            self._refuse(f"has no list {key!r}")
        for place, one in enumerate(found):
            if not isinstance(one, dict):
                self._refuse(f"{key}[{place}] is no object")
        return found

    def _named(self, key: str, what: str) -> dict[Any, str]:
        """The ``what`` of each by its id. Raises :class:`UserError` for one that stands twice."""
        found: dict[Any, str] = {}
        places: dict[Any, int] = {}
        for place, one in enumerate(self._lists[key]):
            number, name = one.get("id"), one.get(what)
            if not isinstance(number, (int, str)) or not isinstance(name, str) or not name:
                self._refuse(f"{key}[{place}] has no id or no {what}")
            for value in (("id", number), (what, name)):
                if value in places:
                    self._refuse(
                        f"{key}[{places[value]}] and {key}[{place}] have the same {value[0]} "
                        f"{value[1]!r}"
                    )
                places[value] = place
            found[number] = name
        if not found:
            self._refuse(f"its list {key!r} is empty")
        return found

    def _refuse(self, problem: str) -> NoReturn:
        raise UserError(f"{self.path}: {problem}.")


def _hashable(value: Any) -> bool:
    return isinstance(value, (int, str))


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) < 1e9 if number and math.isfinite(value) else number
