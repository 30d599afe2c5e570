"""Pairs of images and masks, read once and kept as arrays in a cache, tile by tile."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from dltrain.data.cache import made_once, progress
from dltrain.data.images.decode import Shape
from dltrain.data.images.survey import window_of
from dltrain.data.images.tally import Looks, tally
from dltrain.data.images.tally import warnings as changes
from dltrain.data.images.wide import Window
from dltrain.data.masks.classes import IGNORED, Coding, Meaning
from dltrain.data.masks.decode import (
    decode_mask,
    modes_of,
    read_image,
)
from dltrain.data.masks.pairs import Pair
from dltrain.data.masks.scan import NOTHING, SHOWN, Scan, each, refuse, require_known, scanned
from dltrain.data.masks.tiles import Tile, tiles_of
from dltrain.data.masks.touching import touching_weights

FORMAT = 2
"""Of the cache; another number makes every cache anew."""


@dataclass(frozen=True)
class Touching:
    """How the weight map of objects that touch is made: of the class of that name."""

    weight: float
    sigma: float
    name: str | None


@dataclass(frozen=True)
class Asked:
    """What a user says of how pairs become arrays."""

    channels: int | None
    window: Window | None
    tile: int | None
    overlap: int
    least: tuple[int, int]
    """Height and width that an array of the training split has at least."""
    touching: Touching | None
    skip_unreadable: bool


@dataclass(frozen=True)
class Found:
    """What all pairs were found to be; as JSON in the cache."""

    channels: int
    window: Window | None
    names: tuple[str, ...]
    colors: tuple[tuple[int, ...], ...]
    told: tuple[str, ...]
    """What a user must hear of each time."""
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class StoredMasks:
    """A split: ``files`` of its columns, ``pixels`` (rows, classes) and ``images`` (rows,).

    ``pixels`` counts those of each class, ``images`` are the numbers of the images, in order, that
    the rows are of.
    """

    files: Mapping[str, Path]
    pixels: np.ndarray[Any, Any]
    images: np.ndarray[Any, Any]

    @property
    def padded(self) -> bool:
        """Whether an image is smaller than the largest of all."""
        sides = np.load(self.files["input"], mmap_mode="r").shape[-2:]
        return bool((np.load(self.files["extent"]) != sides).any())


def stored(
    folder: Path,
    key: Mapping[str, Any],
    asked: Asked,
    splits: Mapping[str, Sequence[Pair]],
    meaning_of: Callable[[set[int]], tuple[Meaning, str]],
    known: Coding,
) -> tuple[Found, dict[str, StoredMasks]]:
    """Each split's pairs as arrays, from ``folder`` where they were read before.

    Columns are ``input`` (rows, channels, height, width) and ``target`` (rows, height, width),
    uint8; ``extent`` (rows, 2), how much of height and width is image, the rest being 0 and no
    class; and ``weight`` as the target, float16, where objects touch. ``key`` holds all that
    decides the content besides. ``meaning_of`` says what values mean, given those of the training
    masks, or raises ValueError; ``known`` are
    the colors of classes. Raises :class:`UserError`
    naming files and places.
    """
    settings = [FORMAT, dict(key), asdict(asked)]

    def make(partial: Path) -> None:
        _read_all(partial, asked, splits, meaning_of, known)

    place = made_once(folder, settings, make, "the decoded images")
    content = json.loads((place / "found.json").read_text(encoding="utf-8"))
    window = content["window"]
    found = Found(
        content["channels"],
        None if window is None else (window[0], window[1]),
        tuple(content["names"]),
        tuple(map(tuple, content["colors"])),
        tuple(content["told"]),
        tuple(content["warnings"]),
    )
    columns = ["input", "target", "extent", *(["weight"] if asked.touching else [])]
    parts = {}
    for name in splits:
        files = {column: place / f"{name}-{column}.npy" for column in columns}
        pixels, images = (np.load(place / f"{name}-{one}.npy") for one in ("pixels", "images"))
        parts[name] = StoredMasks(files, pixels, images)
    return found, parts


def _read_all(
    place: Path,
    asked: Asked,
    splits: Mapping[str, Sequence[Pair]],
    meaning_of: Callable[[set[int]], tuple[Meaning, str]],
    known: Coding,
) -> None:
    total = sum(map(len, splits.values()))
    with progress("Reading masks", transient=True) as bars:
        bar = bars.add_task("", total=total)
        scans = {
            n: scanned(pairs, known, partial(bars.advance, bar)) for n, pairs in splits.items()
        }
    faults = [one for scan in scans.values() for _, one in sorted(scan.faults.items())]
    if faults and not asked.skip_unreadable:
        refuse(faults, "Mend or remove them, or set data.skip_unreadable=true.")
    for name, scan in scans.items():
        if not scan.masks:
            refuse(faults, f"No image is left for the split {name!r}.")
    values = {value for m in scans["train"].masks.values() if not m.colored for value in m.values}
    if not known.codes:
        require_known(splits, {name: scan.colored() for name, scan in scans.items()}, NOTHING)
    meaning, told = meaning_of(values)
    asked = replace(asked, touching=with_name(asked.touching, meaning))
    require_known(splits, scans, meaning)
    headers = [header for scan in scans.values() for header in scan.images.values()]
    window = asked.window
    for scan in scans.values():
        window = window or window_of(scan.images.values())
    channels = asked.channels or (1 if all(header.gray for header in headers) else 3)
    with progress("Decoding images") as bars:
        bar = bars.add_task("", total=total)
        stored_splits = [
            _store(
                place,
                name,
                pairs,
                scans[name],
                asked,
                meaning,
                (channels, window),
                partial(bars.advance, bar),
            )
            for name, pairs in splits.items()
        ]
    warnings = [*(f"left out: {fault}" for fault in faults[:SHOWN])]
    if len(faults) > SHOWN:
        warnings.append(f"left out: {len(faults) - SHOWN} more that cannot be read")
    looks = Looks()
    for wasted, seen in stored_splits:
        warnings += filter(None, [wasted])
        looks = looks.merged(seen)
    shape = Shape(channels, 1, 1, None, window)
    warnings += changes({"": tally(headers, shape, looks, ())}, shape)
    modes = Counter(mask.mode for scan in scans.values() for mask in scan.masks.values())
    said = [*filter(None, [told]), f"masks: {modes_of(modes)}"]
    found = Found(
        channels,
        window,
        meaning.classes.names,
        meaning.classes.colors,
        tuple(said),
        tuple(warnings),
    )
    (place / "found.json").write_text(json.dumps(asdict(found)), encoding="utf-8")


def _store(
    place: Path,
    name: str,
    pairs: Sequence[Pair],
    scan: Scan,
    asked: Asked,
    meaning: Meaning,
    form: tuple[int, Window | None],
    done: Callable[[], None],
) -> tuple[str, Looks]:
    """Write the arrays of a split; what is to be warned of, and what its images look like."""
    channels, window = form
    rows = sorted(scan.masks)
    cut = {
        row: tiles_of(scan.masks[row].height, scan.masks[row].width, asked.tile, asked.overlap)
        for row in rows
    }
    tiles = [tile for row in rows for tile in cut[row]]
    least = asked.least if name == "train" else (1, 1)
    height = max(least[0], *(tile.bottom - tile.top for tile in tiles))
    width = max(least[1], *(tile.right - tile.left for tile in tiles))
    first = dict(zip(rows, np.cumsum([0, *(len(cut[row]) for row in rows)]).tolist(), strict=False))
    count = len(tiles)

    def array(column: str, dtype: Any, *shape: int) -> np.ndarray[Any, Any]:
        path = place / f"{name}-{column}.npy"
        return np.lib.format.open_memmap(path, "w+", dtype, (count, *shape))

    images = array("input", np.uint8, channels, height, width)
    targets = array("target", np.uint8, height, width)
    extents = array("extent", np.int32, 2)
    weights = array("weight", np.float16, height, width) if asked.touching else None
    classes = len(meaning.classes.names)
    pixels = np.zeros((count, classes), np.int64)

    looks = Looks()

    def decode(position: int) -> Looks:
        row = rows[position]
        image = read_image(pairs[row].image, channels, window)
        mask = decode_mask(pairs[row].mask, meaning)
        map_ = None if asked.touching is None else _weights(mask, asked.touching, meaning)
        for number, tile in enumerate(cut[row], first[row]):
            box = slice(tile.top, tile.bottom), slice(tile.left, tile.right)
            high, wide = tile.bottom - tile.top, tile.right - tile.left
            images[number, :, :high, :wide] = image[:, box[0], box[1]]
            targets[number] = IGNORED
            targets[number, :high, :wide] = _owned(mask, tile)
            extents[number] = high, wide
            if weights is not None and map_ is not None:
                weights[number, :high, :wide] = map_[box]
            counts = np.bincount(targets[number].ravel(), minlength=IGNORED + 1)
            pixels[number] = counts[:classes]
        seen = Looks()
        seen.add(image, scan.images[row].wide)
        return seen

    for seen in each(decode, len(rows)):
        looks = looks.merged(seen)
        done()
    for written in (images, targets, extents, weights):
        if written is not None:
            written.flush()  # type: ignore[attr-defined]
    np.save(place / f"{name}-pixels.npy", pixels)
    np.save(place / f"{name}-images.npy", np.repeat(np.asarray(rows), [len(cut[r]) for r in rows]))
    own = sum((t.bottom - t.top) * (t.right - t.left) for t in tiles)
    if count * height * width <= 3 * own:
        return "", looks
    largest = max(t.bottom - t.top for t in tiles), max(t.right - t.left for t in tiles)
    if count * largest[0] * largest[1] <= 3 * own:
        return (
            f"data.crop_size={list(least)} is more than the {name} images have, "
            f"{largest[0]}x{largest[1]} (height, width) at most: most of it is padding"
        ), looks
    return (
        f"the {name} images have many sizes, and are kept as {height}x{width} each: most of it "
        "is padding. data.tile=SIDE cuts the larger ones into tiles"
    ), looks


def _owned(mask: np.ndarray[Any, Any], tile: Tile) -> np.ndarray[Any, Any]:
    """The tile's part of the mask; pixels of its neighbors count for nothing."""
    found = np.full((tile.bottom - tile.top, tile.right - tile.left), IGNORED, np.uint8)
    own = slice(tile.own_top, tile.own_bottom), slice(tile.own_left, tile.own_right)
    inside = (
        slice(tile.own_top - tile.top, tile.own_bottom - tile.top),
        slice(tile.own_left - tile.left, tile.own_right - tile.left),
    )
    found[inside] = mask[own]
    return found


def _weights(
    mask: np.ndarray[Any, Any], touching: Touching, meaning: Meaning
) -> np.ndarray[Any, Any]:
    assert touching.name is not None
    number = meaning.classes.names.index(touching.name)
    return touching_weights(mask == number, touching.weight, touching.sigma)


def with_name(touching: Touching | None, meaning: Meaning) -> Touching | None:
    """``touching`` with the class whose objects touch: the last of two, where none is named."""
    if touching is None:
        return None
    names = meaning.classes.names
    if touching.name is None and len(names) != 2:
        raise ValueError("touching_class: of several classes, name that of the objects")
    if touching.name is not None and touching.name not in names:
        raise ValueError(f"touching_class: there is no class {touching.name!r}")
    return replace(touching, name=touching.name or names[-1])
