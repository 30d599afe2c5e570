"""Texts, each with the probabilities of its classes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dltrain.reports.canvas import shortened

WIDE, LINES = 58, 3
"""Letters of a line, and lines of a text, that are shown."""
BARS = 3
"""Classes of a text."""


def draw_texts(
    texts: Sequence[str], probabilities: NDArray[Any], class_names: Sequence[str]
) -> Figure:
    """Texts (n,) on the left; on the right bars of the most probable of (n, classes)."""
    bars = min(BARS, probabilities.shape[1])
    row, head = 0.22 * max(bars, LINES) + 0.14, 0.1
    figure = Figure(figsize=(10, row * len(texts) + head))
    axes = figure.add_axes((0, 0, 1, 1), frameon=False)
    axes.set_axis_off()
    axes.set_xlim(0, 10)
    axes.set_ylim(row * len(texts) + head, 0)
    for number, (text, chances) in enumerate(zip(texts, probabilities, strict=True)):
        top = head + number * row
        lines = textwrap.wrap(" ".join(text.split()), WIDE, max_lines=LINES, placeholder=" …")
        axes.text(0.15, top, "\n".join(lines), va="top", fontsize=9, parse_math=False)
        for place, index in enumerate(np.argsort(-chances, kind="stable")[:bars]):
            y, chance = top + 0.22 * place + 0.07, float(chances[index])
            axes.barh(y, 2.2 * chance, height=0.15, left=7.0, color="C0" if not place else "0.75")
            name = shortened(class_names[index], 14)
            axes.text(6.9, y, name, ha="right", va="center", fontsize=9, parse_math=False)
            axes.text(7.05 + 2.2 * chance, y, f"{chance:.0%}", va="center", fontsize=8)
    return figure
