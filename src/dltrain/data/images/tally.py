"""What was found in a split's images and done to them, and the words for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dltrain.data.images.decode import Shape
from dltrain.data.images.survey import Header, in_words

SHOWN = 3
LISTED = 20
LEVELS = 16
"""Wide images that keep fewer of 256 levels of gray than this are warned of."""
TAIL = 0.001
"""The fraction of pixels at either end that does not count in this: hot pixels, dead ones."""


class Looks:
    """What images look like once they are decoded."""

    def __init__(self) -> None:
        self.flat = 0
        self.levels: np.ndarray[Any, Any] = np.zeros(256, np.int64)

    def add(self, pixels: np.ndarray[Any, Any], wide: bool) -> None:
        """Take in an image (channels, height, width)."""
        self.flat += bool((pixels == pixels[:, :1, :1]).all())
        if wide:
            self.levels += np.bincount(pixels.ravel(), minlength=256)

    def merged(self, other: Looks) -> Looks:
        """Both together."""
        both = Looks()
        both.flat, both.levels = self.flat + other.flat, self.levels + other.levels
        return both


@dataclass(frozen=True)
class Tally:
    """Counts of a split's images; as JSON in the cache."""

    images: int
    modes: Mapping[str, int]
    sizes: Mapping[str, int]
    """The most usual of them, as ``width``x``height``."""
    more_sizes: int
    """Those that ``sizes`` leave out."""
    colored: int
    alpha: int
    paged: Mapping[str, int]
    """By format: files of several images, of which the first is read."""
    wide: int
    low: float
    high: float
    """Of the wide images' pixels."""
    cut: int
    """Wide images with pixels beyond the window."""
    flat: int
    """Images of one color."""
    levels: Sequence[int]
    """The two of 256 levels between which most pixels of wide images lie; empty without such."""
    skipped: Sequence[str] = field(default_factory=tuple)


def tally(headers: Sequence[Header], shape: Shape, looks: Looks, skipped: Sequence[str]) -> Tally:
    """Count what the images of a split are."""
    sizes = Counter(f"{header.width}x{header.height}" for header in headers).most_common()
    wide = [header for header in headers if header.wide]
    low, high = shape.window or (0, 0)
    return Tally(
        images=len(headers),
        modes=dict(Counter(header.mode for header in headers)),
        sizes=dict(sizes[:SHOWN]),
        more_sizes=len(sizes[SHOWN:]),
        colored=sum(not header.gray for header in headers),
        alpha=sum(header.mode.endswith(("LA", "RGBA")) for header in headers),
        paged=dict(Counter(header.paged for header in headers if header.paged)),
        wide=len(wide),
        low=min((header.low for header in wide), default=0),
        high=max((header.high for header in wide), default=0),
        cut=sum(header.low < low or header.high > high for header in wide),
        flat=looks.flat,
        levels=_levels(looks.levels),
        skipped=list(skipped),
    )


def _levels(counts: np.ndarray[Any, Any]) -> list[int]:
    if not counts.sum():
        return []
    below = counts.cumsum() / counts.sum()
    return [int((below > TAIL).argmax()), int((below >= 1 - TAIL).argmax())]


def what_was_read(tallies: Iterable[Tally], shape: Shape) -> str:
    """One line: modes and sizes of the files, and what they were made into."""
    modes: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    more, alpha, flat = False, 0, 0
    for one in tallies:
        modes.update(one.modes)
        sizes.update(one.sizes)
        more = more or one.more_sizes > 0
        alpha, flat = alpha + one.alpha, flat + one.flat
    found = [f"{in_words(mode)} {count:,}" for mode, count in modes.most_common()]
    usual = [f"{size} {count:,}" for size, count in sizes.most_common(SHOWN)]
    if more or len(sizes) > SHOWN:
        usual.append("others")
    made = "color" if shape.channels == 3 else "gray"
    line = f"{', '.join(found)}; {', '.join(usual)}; made {made} {shape.width}x{shape.height}"
    if len(sizes) > 1 and shape.fit is not None:
        line += f" (data.fit={shape.fit})"
    if alpha:
        line += f"; {alpha:,} with alpha lie on white"
    if flat:
        line += f"; {flat:,} of one color throughout"
    return line


def warnings(tallies: Mapping[str, Tally], shape: Shape) -> Iterator[str]:
    """What a user must hear of: files left out, and what decoding may have taken away."""
    for name, one in tallies.items():
        if one.skipped:
            lines = [f"\n  {line}" for line in one.skipped[:LISTED]]
            rest = len(one.skipped) - LISTED
            lines += [f"\n  and {rest:,} more"] if rest > 0 else []
            yield f"{len(one.skipped)} files of {name} skipped:{''.join(lines)}"
    every = list(tallies.values())
    images = sum(one.images for one in every)
    colored = sum(one.colored for one in every)
    if shape.channels == 1 and colored:
        yield f"{colored:,} of {images:,} images have colors, which data.channels=1 makes gray."
    paged: Counter[str] = Counter()
    for one in every:
        paged.update(one.paged)
    if paged:
        formats = ", ".join(f"{kind} {count:,}" for kind, count in paged.items())
        yield (
            f"{paged.total():,} files have several pages or frames ({formats}): only the first "
            "of each is read."
        )
    if images and sum(one.flat for one in every) == images:
        yield "every image is of one color throughout, once it is decoded."
    yield from _about_wide(every, shape)


def _about_wide(tallies: Sequence[Tally], shape: Shape) -> Iterator[str]:
    wide = [one for one in tallies if one.wide]
    if shape.window is None:
        return
    if not wide:
        yield "data.window is for pixels of more than 8 bits, and no image has such."
        return
    low, high = (f"{end:g}" for end in shape.window)
    values = f"{min(one.low for one in wide):g} to {max(one.high for one in wide):g}"
    yield (
        f"{sum(one.wide for one in wide):,} images have pixels of more than 8 bits, from {values}: "
        f"{low} becomes black and {high} white, as data.window=[{low},{high}] says."
    )
    cut = sum(one.cut for one in wide)
    if cut:
        yield f"{cut:,} images have pixels beyond data.window=[{low},{high}], which are cut off."
    first, last = min(one.levels[0] for one in wide), max(one.levels[1] for one in wide)
    if last - first < LEVELS:
        start, width = shape.window[0], shape.window[1] - shape.window[0]
        ends = [start + width * first / 255, start + width * (last + 1) / 255]
        yield (
            f"nearly all their pixels lie in {last - first + 1} of 256 levels of gray; "
            f"data.window=[{ends[0]:.6g},{ends[1]:.6g}] would spread them."
        )
