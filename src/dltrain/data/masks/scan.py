"""What pairs of image and mask are, before they are decoded; and what is wrong with them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

from dltrain.data.images.decode import UnreadableError
from dltrain.data.images.survey import Header
from dltrain.data.masks.classes import Classes, Coding, Meaning, unpacked
from dltrain.data.masks.decode import MaskHeader, first_of, read_image_header, read_mask_header
from dltrain.data.masks.pairs import Pair
from dltrain.errors import UserError

T = TypeVar("T")

SHOWN = 5
NOTHING = Meaning(Classes(), Coding((), ()), Coding((), ()))


@dataclass
class Scan:
    """What the headers of a split say, by the pairs' places; what is wrong with the others."""

    images: dict[int, Header]
    masks: dict[int, MaskHeader]
    faults: dict[int, str]

    def colored(self) -> Scan:
        """That of masks of colors alone."""
        masks = {row: mask for row, mask in self.masks.items() if mask.colored}
        return replace(self, masks=masks)


def scanned(pairs: Sequence[Pair], known: Coding, done: Callable[[], None]) -> Scan:
    """Look at the pairs; ``known`` are the colors of classes, ``done`` is called after each."""
    scan = Scan({}, {}, {})

    def look(row: int) -> tuple[int, Header | None, MaskHeader | None, str]:
        pair = pairs[row]
        image, mask, page = None, None, pair.image
        try:
            image = read_image_header(page)
            page = pair.mask
            mask = read_mask_header(page, known)
        except UnreadableError as error:
            return row, image, None, f"{page} {error}"
        if (image.width, image.height) != (mask.width, mask.height):
            return (
                row,
                None,
                None,
                (
                    f"{pair.mask} is {mask.width}x{mask.height}, and its image {pair.image} "
                    f"{image.width}x{image.height}"
                ),
            )
        return row, image, mask, ""

    for row, image, mask, fault in each(look, len(pairs)):
        done()
        if image is None or mask is None:
            scan.faults[row] = fault
        else:
            scan.images[row], scan.masks[row] = image, mask
    return scan


def require_known(
    splits: Mapping[str, Sequence[Pair]], scans: Mapping[str, Scan], meaning: Meaning
) -> None:
    """Raise :class:`UserError` naming masks that have values of no class, and where."""
    faults = []
    colored = False
    for name, scan in scans.items():
        for row, mask in sorted(scan.masks.items()):
            coding = meaning.colored if mask.colored else meaning.gray
            unknown = coding.unknown(mask.values)
            if not unknown:
                continue
            colored |= mask.colored
            page = splits[name][row].mask
            value = unknown[0]
            y, x = first_of(page, value, meaning.colored)
            what = f"the color {unpacked(value)}" if mask.colored else f"the value {value}"
            more = f", and {len(unknown) - 1:,} other unknown ones" if len(unknown) > 1 else ""
            faults.append(
                f"{page} has {what} (row {y + 1}, column {x + 1}; "
                f"{mask.values[value]:,} pixels){more}"
            )
    if not faults:
        return
    names = meaning.classes.names
    there = f"There are {len(names)} classes: {', '.join(names[:12])}{', …' if names[12:] else ''}."
    if colored and not meaning.classes.colors:
        hint = (
            "Masks of colors need to be told which class each is: data.classes_file=FILE, with a "
            "line name,red,green,blue for each."
        )
    elif colored:
        hint = f"{there} Name the color, too; a lossy format such as JPEG makes others."
    else:
        hint = (
            f"{there} data.ignore=VALUE leaves its pixels out of everything; data.values=[…] says "
            "which value each class has."
        )
    refuse(faults, hint)


def refuse(faults: Sequence[str], hint: str) -> None:
    """Raise :class:`UserError` with the first of them, and what to do."""
    rest = len(faults) - SHOWN
    more = [f"and {rest} more"] if rest > 0 else []
    raise UserError("\n".join([*faults[:SHOWN], *more, hint]))


def each(work: Callable[[int], T], count: int) -> Iterator[T]:
    """``work`` on each place, in threads: the decoders let go of Python's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(work, range(count))
