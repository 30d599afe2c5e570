"""What all figures share: colors, frames, and how a figure becomes a file."""

from __future__ import annotations

import io
from collections.abc import Callable
from weakref import WeakKeyDictionary

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

DPI = 110
BLUE, ORANGE, RED, GRAY = "#1f5fa8", "#e07b00", "#c62828", "#5f6368"
# Told apart by the color-blind too (Okabe and Ito 2008); their yellow is too pale for a line.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000")

_rendered: WeakKeyDictionary[Callable[[], Figure], bytes] = WeakKeyDictionary()


def render(draw: Callable[[], Figure]) -> bytes:
    """What ``draw`` draws, as the bytes of a PNG file.

    The bytes are kept as long as ``draw`` itself lives, so that several callbacks can ask for
    one evaluation's figure and pay for it once.
    """
    if draw not in _rendered:
        _rendered[draw] = png(draw())
    return _rendered[draw]


def png(figure: Figure) -> bytes:
    """The bytes of a PNG file; the same figure gives the same bytes."""
    FigureCanvasAgg(figure)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def blank(width: float, height: float) -> Figure:
    """A figure of that many inches, whose parts make room for each other."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), layout=layout)


def light_frame(axes: Axes) -> None:
    """No box around the data, and a faint grid behind it."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def shortened(name: str, most: int = 16) -> str:
    """The name, cut to ``most`` letters."""
    return name if len(name) <= most else f"{name[: most - 1]}…"
