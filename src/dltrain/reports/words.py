"""Words, shaded by what a network makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dltrain.reports.canvas import GRAY, ORANGE, RED, columns, shortened
from dltrain.reports.fonts import STANDARD, fallback, missing

COLUMNS = 100
"""Letters on a line."""
MOST_WORDS = 80
MOST_LETTERS = 30
FONT, POINTS = "DejaVu Sans Mono", 9
LETTER, LINE = 0.602 * POINTS / 72, 1.8 * POINTS / 72
"""Inches that a letter of that font is wide, and that a line is high."""
SHADES = LinearSegmentedColormap.from_list("shades", ("white", ORANGE))


class Shaded(NamedTuple):
    """A text: its words, the weight of each (words,), and its prediction."""

    words: Sequence[str]
    weights: NDArray[Any]
    caption: str
    wrong: bool


def draw_attention(texts: Sequence[Shaded]) -> Figure:
    """Texts one below the other, each word as dark as its weight among those of its text.

    Of a text longer than ``MOST_WORDS`` words, the stretch of so many is shown that has most of
    the weight. A wrong answer's caption is red.
    """
    stretches = [_stretch(text) for text in texts]
    placed = [list(_placed(text.words)) for text in stretches]
    # A caption, lines of words and a gap.
    heights = [2.6 + max((line for line, _, _ in words), default=0) for words in placed]
    height = sum(heights) + 2
    figure = Figure(figsize=((COLUMNS + 4) * LETTER, height * LINE))
    # Placed by hand: a letter's width and a line's height are the units of the axes.
    axes = figure.add_axes((2 / (COLUMNS + 4), 0, COLUMNS / (COLUMNS + 4), 1), frameon=False)
    axes.set_axis_off()
    axes.set_xlim(0, COLUMNS)
    axes.set_ylim(height, 0)
    axes.text(0, 1, "Attention: each word as dark as its weight in its text", fontsize=11)
    top = 2.0
    for text, words, own in zip(stretches, placed, heights, strict=True):
        axes.text(
            0, top + 0.5, text.caption, va="center", fontsize=POINTS,
            color=RED if text.wrong else GRAY, weight="bold",
        )  # fmt: skip
        strengths = text.weights / max(float(text.weights.max(initial=0)), 1e-12)
        for (line, column, word), strength in zip(words, strengths, strict=True):
            low = top + 1 + line
            box = Rectangle((column - 0.4, low + 0.06), columns(word) + 0.8, 0.88)
            box.set(color=SHADES(strength), linewidth=0, clip_on=False)
            axes.add_patch(box)
            axes.text(
                column, low + 0.5, word, va="center", fontsize=POINTS, family=(FONT, STANDARD),
            )  # fmt: skip
        top += own
    return figure


def _stretch(text: Shaded) -> Shaded:
    """The neighboring words that have most of the weight, and how many there are besides."""
    count = len(text.words)
    fraction = f"darkest {text.weights.max(initial=0):.1%} of the weight"
    if count <= MOST_WORDS:
        return text._replace(caption=f"{text.caption}   {fraction}")
    sums = np.convolve(text.weights, np.ones(MOST_WORDS), "valid")
    first = int(sums.argmax())
    last = first + MOST_WORDS
    where = f"words {first + 1} to {last} of {count:,}"
    return Shaded(
        text.words[first:last], text.weights[first:last],
        f"{text.caption}   {fraction}   {where}", text.wrong,
    )  # fmt: skip


def _placed(words: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """The line and the column of each word, and the word as it is drawn."""
    text = "".join(words)
    unknown = missing(text, FONT, STANDARD, *fallback(text))
    line = column = 0
    for word in words:
        known = "".join("▯" if letter in unknown else letter for letter in word)
        shown = shortened(known, MOST_LETTERS)
        if column + columns(shown) > COLUMNS:
            line, column = line + 1, 0
        yield line, column, shown
        column += columns(shown) + 1
