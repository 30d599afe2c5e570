"""Names in figures are anybody's: formulas, other scripts, line breaks; and some are too many."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib.tables._g_l_y_f import Glyph
from matplotlib.figure import Figure
from matplotlib.text import Text

from dltrain import messages
from dltrain.callbacks.figures import Figures
from dltrain.contracts.metric import Evaluation
from dltrain.reports import fonts
from dltrain.reports.boundary import draw_decision_boundary
from dltrain.reports.canvas import columns, png, shortened
from dltrain.reports.classes import MOST_NAMED, draw_confusion_matrix, draw_predictions
from dltrain.reports.curves import draw_learning_curves
from dltrain.reports.latent import draw_latent_plane
from dltrain.reports.numbers import draw_fit
from dltrain.reports.plane import Plane
from dltrain.reports.probabilities import ClassCurves, draw_rankings
from tests.watching import FakeView

PNG = b"\x89PNG\r\n\x1a\n"
NAMES = ["10k_to_$20k", "$50k$", "_hidden", "a^b_{c}", "\\frac {", "two\nlines", "x" * 300, "قط"]
CAT = "猫"


def figures() -> dict[str, Figure]:
    """Every figure that shows names of the user's."""
    count = len(NAMES)
    chances = np.eye(count)
    line = np.linspace(0, 1, 5)
    plane, points = Plane(0, 1, 0, 1, 4), np.random.default_rng(0).random((count, 2))
    curves = [ClassCurves(name, line, line, line, 0.5, 0.5) for name in NAMES]
    rows = [
        {"split": "train", "epoch": str(n), "step": "1", "name": "_f1_$x$", "value": str(10.0**-n)}
        for n in range(5)
    ]
    return {
        "confusion": draw_confusion_matrix(np.eye(count, dtype=int), NAMES),
        "predictions": draw_predictions(np.zeros((count, 2, 2, 1)), chances, range(count), NAMES),
        "rankings": draw_rankings(curves),
        "boundary": draw_decision_boundary(
            plane, np.tile(chances, (2, 1)), points, np.arange(count), NAMES, NAMES[:2]
        ),
        "latent": draw_latent_plane(
            plane, np.zeros((16, 2, 2, 1)), points, np.arange(count), NAMES
        ),
        "fit": draw_fit(line, line, line, line, "price ($) per $m^2$"),
        "curves": draw_learning_curves(rows),
    }


def test_names_are_no_formulas_and_none_is_hidden() -> None:
    for kind, figure in figures().items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert png(figure).startswith(PNG), kind
        named = [text for text in figure.findobj(Text) if "$" in text.get_text()]
        formulas = {text.get_text() for text in named if text.get_parse_math()}
        # Powers of ten along a log axis are matplotlib's own.
        assert all(text.startswith("$\\mathdefault{10^") for text in formulas), kind
        assert len(named) > len(formulas), kind
        for axes in figure.axes:
            legend = axes.get_legend()
            if legend is not None and kind in ("rankings", "boundary"):
                assert len(legend.get_texts()) == len(NAMES), kind


def test_a_name_is_one_line_of_at_most_some_width() -> None:
    assert shortened("two\nlines\tand  more", 30) == "two lines and more"
    assert shortened("x" * 300, 5) == "xxxx…"
    assert columns(shortened(CAT * 300, 10)) <= 10
    assert shortened("a\x07b\u202ec") == "abc"


def test_of_very_many_classes_some_are_named() -> None:
    count = 4 * MOST_NAMED
    figure = draw_confusion_matrix(np.eye(count, dtype=int), [str(n) for n in range(count)])
    labels = [text.get_text() for text in figure.axes[0].get_xticklabels()]
    assert len(labels) <= MOST_NAMED
    assert labels[:2] == ["0", "4"]


@pytest.fixture
def no_font_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process, on a system with no fonts beside matplotlib's own."""
    own = [entry for entry in fonts.fontManager.ttflist if entry.name.startswith("DejaVu")]
    monkeypatch.setattr(fonts.fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "findSystemFonts", list)
    monkeypatch.setattr(fonts, "_family_of", {})


@pytest.mark.usefixtures("no_font_known")
def test_a_font_of_the_system_that_has_the_letters_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "cat"])
    builder.setupCharacterMap({ord(CAT): "cat"})
    builder.setupGlyf({".notdef": Glyph(), "cat": Glyph()})
    builder.setupHorizontalMetrics({".notdef": (500, 0), "cat": (500, 0)})
    builder.setupHorizontalHeader()
    builder.setupNameTable({"familyName": "Cats Alone", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "cats.ttf")
    # Installed since matplotlib has made its list.
    monkeypatch.setattr(fonts, "findSystemFonts", lambda: [str(tmp_path / "cats.ttf")])

    figure = draw_confusion_matrix(np.eye(2, dtype=int), [CAT, "dog"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        png(figure)

    assert "Cats Alone" in figure.axes[0].get_xticklabels()[0].get_fontfamily()
    assert not caplog.messages


@pytest.mark.usefixtures("no_font_known")
def test_letters_that_no_font_has_are_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            png(draw_confusion_matrix(np.eye(2, dtype=int), [CAT, "犬"]))
    [message] = caplog.messages
    assert "boxes for 犬 猫" in message
    assert "apt install fonts-noto-cjk" in message


def test_a_figure_that_fails_is_left_out_and_its_traceback_kept(tmp_path: Path) -> None:
    def fail() -> Figure:
        raise ZeroDivisionError("by nothing")

    (tmp_path / "metrics.csv").write_text("step,epoch,split,name,value\n")
    view, said, kept = FakeView(tmp_path), list[str](), list[str]()
    figures = Figures()
    figures.evaluated(view, "test", Evaluation(figures={"bad": fail, "good": Figure}))
    with messages.shown() as shown:
        shown.show_by(said.append, lambda details, when: kept.append(details))
        figures.end(view, "finished")

    assert list(view.written) == ["figures/test_good.png", "figures/learning_curves.png"]
    assert said == ["note: the figure test_bad is left out: ZeroDivisionError: by nothing"]
    assert kept[0].startswith("Traceback")
    assert "raise ZeroDivisionError" in kept[0]
