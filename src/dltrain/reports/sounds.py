"""Spectrograms of sounds, with their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from dltrain.reports.canvas import RED, blank

COLUMNS = 2
HEIGHT = 1.9
"""Inches of a row of spectrograms."""


@dataclass(frozen=True)
class Spectrogram:
    """``frames`` (time, features) of a sound, ``rate`` a second, and what is written over it.

    ``marks`` are texts at frames, such as the letters that a network writes there. ``wrong``
    colors the title.
    """

    frames: NDArray[Any]
    rate: float
    title: str
    wrong: bool = False
    marks: Sequence[tuple[float, str]] = ()


def draw_spectrograms(sounds: Sequence[Spectrogram]) -> Figure:
    """Time from left to right, the first feature, of the lowest frequency, at the bottom."""
    rows = -(-len(sounds) // COLUMNS)
    figure = blank(9.5, 0.4 + HEIGHT * rows)
    for number, sound in enumerate(sounds, 1):
        axes = figure.add_subplot(rows, COLUMNS, number)
        length = len(sound.frames)
        axes.imshow(
            sound.frames.T, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
            extent=(0, length / sound.rate, 0, sound.frames.shape[1]),
        )  # fmt: skip
        for frame, text in sound.marks:
            axes.text(
                (frame + 0.5) / sound.rate, sound.frames.shape[1] * 0.97, text,
                color="white", fontsize=9, ha="center", va="top",
            )  # fmt: skip
        axes.set_title(sound.title, fontsize=8, color=RED if sound.wrong else "black")
        axes.tick_params(labelsize=7)
        if number > len(sounds) - COLUMNS:
            axes.set_xlabel("seconds", fontsize=8)
        if number % COLUMNS == 1:
            axes.set_ylabel("feature", fontsize=8)
    return figure
