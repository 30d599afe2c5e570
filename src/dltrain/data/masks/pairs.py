"""Which mask belongs to which image: by folders and names, or page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from dltrain.config.suggest import did_you_mean
from dltrain.data.images.decode import UnreadableError, open_file
from dltrain.data.images.layout import SPLITS
from dltrain.data.images.listing import Unused, image_files
from dltrain.errors import UserError

IMAGES = ("images", "image", "imgs", "img", "JPEGImages")
MASKS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "annots", "annot", "gt"),
    "SegmentationClass",
)
"""What folders are called; case does not matter."""
SUFFIXES = ("_mask", "-mask", "_masks", "_label", "_labels", "_seg", "_segmentation", "_gt", "_L")
"""What a mask's name may have more than its image's."""
BESIDE = ("annot", "_annot", "_labels", "_label", "_masks", "_mask", "_annotations")
"""What the folder of a split's masks may have more in its name than that of its images."""
SPLIT = "{split}"
SHOWN = 5


@dataclass(frozen=True)
class Page:
    """An image in a file: the only one, or number ``number`` (from 0) of several."""

    path: Path
    number: int | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path) if self.number is None else f"{self.path}, page {self.number + 1}"


@dataclass(frozen=True)
class Pair:
    """An image and its mask."""

    image: Page
    mask: Page


def find_pairs(
    path: Path, images: str | None, masks: str | None, skip: bool, unused: Unused
) -> dict[str, list[Pair]]:
    """The pairs of each split below ``path``, ``train`` first, in the order of their names.

    ``images`` and ``masks`` are files or folders below ``path``, in which ``{split}`` stands for a
    folder of a split (train, val, test, …); null: as they are usually called. An image without a
    mask is refused, unless those are to be ``skip``-ped; a mask without an image is counted.

    Raises ValueError where nothing, or several things, may be meant.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is no folder")
    if (images is None) != (masks is None):
        raise ValueError("images and masks say where both are: give both, or neither")
    places = _found(path) if images is None or masks is None else _given(path, images, masks)
    if "train" not in places:
        raise ValueError(f"{path} has {', '.join(places)}, but no images and masks to train on")
    found = {}
    for split, (image_place, mask_place) in places.items():
        found[split] = list(_pairs(image_place, mask_place, path, skip, unused))
    if not any(found.values()):
        raise UserError(f"data.path: {path} has no image with a mask.")
    return found


def _given(path: Path, images: str, masks: str) -> dict[str, tuple[Path, Path]]:
    """The places that a user names."""
    if (SPLIT in images) != (SPLIT in masks):
        raise ValueError(f"{SPLIT} stands in both images and masks, or in neither")
    if SPLIT not in images:
        for key, value in (("images", images), ("masks", masks)):
            if not (path / value).exists():
                there = [place.name for place in sorted(path.iterdir())]
                hint = did_you_mean(value, there)
                raise ValueError(f"{key}: there is no {path / value}. {hint}".rstrip())
        return {"train": (path / images, path / masks)}
    found = {}
    for split, spellings in SPLITS.items():
        for name in spellings:
            both = path / images.replace(SPLIT, name), path / masks.replace(SPLIT, name)
            if both[0].exists() and not both[1].exists():
                raise ValueError(f"masks: there is {both[0]}, but no {both[1]}")
            if both[0].exists() and split not in found:
                found[split] = both
    if not found:
        raise ValueError(f"images: {path} has no {images} of any split, such as train")
    return found


def _found(path: Path) -> dict[str, tuple[Path, Path]]:
    """The places by their usual names."""
    layouts = list(_layouts(path))
    if not layouts:
        raise ValueError(
            f"{path} has no folders of images and of masks: such as images/ and masks/, both in "
            "train/ and test/, or train/ and trainannot/. Name them: data.images=… data.masks=…"
        )
    if len(layouts) > 1:
        told = " or ".join(
            f"{one.relative_to(path)}/ and {two.relative_to(path)}/"
            for one, two in (next(iter(layout.values())) for layout in layouts)
        )
        raise ValueError(f"in {path}, {told} may be meant: name them, data.images=… data.masks=…")
    return layouts[0]


def _layouts(path: Path) -> Iterator[dict[str, tuple[Path, Path]]]:
    """Every way in which images and masks lie there."""
    tops = _children(path)
    splits = {
        split: next((tops[name] for name in spellings if name in tops), None)
        for split, spellings in SPLITS.items()
    }
    inside = {s: both for s, place in splits.items() if place and (both := _both(_children(place)))}
    beside = {
        split: (place, tops[name])
        for split, place in splits.items()
        if place is not None
        for name in (f"{place.name.lower()}{ending}" for ending in BESIDE)
        if name in tops
    }
    yield from filter(None, (inside, beside))
    if both := _both(tops):
        images, masks = (_children(place) for place in both)
        found = {}
        for split, spellings in SPLITS.items():
            name = next((name for name in spellings if name in images and name in masks), None)
            if name is not None:
                found[split] = images[name], masks[name]
        yield found or {"train": both}


def _children(place: Path) -> dict[str, Path]:
    """Folders by their names in small letters."""
    return {one.name.lower(): one for one in sorted(place.iterdir()) if one.is_dir()}


def _both(folders: Mapping[str, Path]) -> tuple[Path, Path] | None:
    """That of images and that of masks."""
    images = next((folders[n.lower()] for n in IMAGES if n.lower() in folders), None)
    masks = next((folders[n.lower()] for n in MASKS if n.lower() in folders), None)
    return None if images is None or masks is None else (images, masks)


def _pairs(images: Path, masks: Path, path: Path, skip: bool, unused: Unused) -> Iterator[Pair]:
    if images.is_file():
        yield from _pages(images, masks)
        return
    files = sorted(image_files(images, unused), key=natural)
    own = _by_name(image_files(masks, unused), masks)
    alone: list[Path] = []
    used: set[Path] = set()
    for file in files:
        stem = file.relative_to(images).with_suffix("").as_posix()
        names = [name for ending in ("", *SUFFIXES) if (name := stem + ending) in own]
        fitting = [mask for name in names[:1] for mask in own[name]]
        if len(fitting) > 1:
            raise ValueError(
                f"{file} has two masks, {fitting[0]} and {fitting[1]}: leave one of them there"
            )
        if not fitting:
            alone.append(file)
            continue
        if fitting[0] in used:
            raise ValueError(f"{fitting[0]} is the mask of two images, one of which is {file}")
        used.add(fitting[0])
        yield from _pages(file, fitting[0])
    if alone and not skip:
        shown = "\n".join(f"{file} has no mask in {masks}" for file in alone[:SHOWN])
        rest = len(alone) - SHOWN
        raise UserError(
            f"{shown}{f'{chr(10)}and {rest} more' if rest > 0 else ''}\nAdd the masks, or leave "
            "such images out: data.skip_unmatched=true."
        )
    for file in alone:
        unused.add("images without a mask", file.name, images=True)
    for mask in chain.from_iterable(own.values()):
        if mask not in used:
            unused.add("masks without an image", mask.name, images=True)


def _by_name(files: Iterator[Path], place: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(file.relative_to(place).with_suffix("").as_posix(), []).append(file)
    return found


def _pages(image: Path, mask: Path) -> Iterator[Pair]:
    """One pair; or one for each page, of TIFF files that have several."""
    if not mask.is_file():
        raise ValueError(f"masks: {image} is a file, and there is no file {mask}")
    counts = [pages_of(image), pages_of(mask)]
    if counts[0] != counts[1]:
        raise ValueError(f"{image} has {counts[0]} pages, and its mask {mask} has {counts[1]}")
    numbers: Sequence[int | None] = range(counts[0]) if counts[0] > 1 else [None]
    for number in numbers:
        yield Pair(Page(image, number), Page(mask, number))


def pages_of(path: Path) -> int:
    """How many images a TIFF file has; 1 for any other, and for what cannot be read."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return 1
    try:
        with open_file(path) as image:
            return int(getattr(image, "n_frames", 1)) if image.format == "TIFF" else 1
    except (UnreadableError, OSError, ValueError, SyntaxError, EOFError):
        return 1


def natural(path: Path) -> list[tuple[int, str]]:
    """A key that puts ``slice2`` before ``slice10``."""
    parts = re.split(r"(?a:(\d{1,18}))", path.as_posix())
    return [(int(part), "") if place % 2 else (-1, part) for place, part in enumerate(parts)]
