"""What all figures share: colors, frames, and how a figure becomes a file."""

from __future__ import annotations

import io
import unicodedata
import warnings
from collections.abc import Callable
from weakref import WeakKeyDictionary

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text

from dltrain.reports.fonts import fallback

DPI = 110
BLUE, ORANGE, RED, GRAY = "#1f5fa8", "#e07b00", "#c62828", "#5f6368"
# Told apart by the color-blind too (Okabe and Ito 2008); their yellow is too pale for a line.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000")
ZERO_WIDTH = "\N{ZERO WIDTH SPACE}"
JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"

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
    show_literally(figure)
    file = io.BytesIO()
    with warnings.catch_warnings():
        # Of letters without a glyph there is a note.
        warnings.filterwarnings("ignore", r"Glyph \d+ ", UserWarning)
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()


def show_literally(figure: Figure) -> None:
    """Have all text of a figure shown as it stands, in fonts that have its letters.

    A name of the user's may have a dollar, which begins a formula to matplotlib, or letters that
    its own font lacks. The powers of ten along a log axis are formulas of matplotlib's.
    """
    formulas = {
        text
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if axis.get_scale() == "log"
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for text in (tick.label1, tick.label2)
    }
    texts = [text for text in figure.findobj(Text) if text not in formulas]
    families = fallback("".join(text.get_text() for text in texts))
    for text in texts:
        text.set_parse_math(False)
        if families:
            text.set_fontfamily([*text.get_fontfamily(), *families])


def blank(width: float, height: float) -> Figure:
    """A figure of that many inches, whose parts make room for each other."""
    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1)
    return Figure(figsize=(width, height), layout=layout)


def light_frame(axes: Axes) -> None:
    """No box around the data, and a faint grid behind it."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def shortened(name: str, most: int = 16) -> str:
    """The name on one line, cut to the width of ``most`` letters."""
    name = "".join(map(_drawable, " ".join(name.split())))
    if columns(name) <= most:
        return name
    while columns(name) > most - 1:
        name = name[:-1]
    return f"{name}…"


def _drawable(letter: str) -> str:
    """A letter; a box for what is none, and nothing for what would change its neighbors' order."""
    if letter in JOINERS or letter.isprintable():
        return letter
    return "" if unicodedata.category(letter) in ("Cc", "Cf") else "▯"


def in_legend(name: str) -> str:
    """The name, so that a legend lists it: matplotlib hides those that begin with ``_``."""
    return f"{ZERO_WIDTH}{name}" if name.startswith("_") else name


def columns(text: str) -> int:
    """How wide a text is, in letters of a font that has all of one width."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    narrow = sum(unicodedata.category(letter) in ("Mn", "Me", "Cf") for letter in text)
    return len(text) + wide - narrow
