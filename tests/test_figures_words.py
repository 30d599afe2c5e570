"""Attention over words: every word at its place, and as dark as it weighs."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.metric import Evaluation
from dltrain.reports.canvas import png
from dltrain.reports.words import COLUMNS, MOST_WORDS, Shaded, draw_attention
from dltrain.tasks.text import TextClassification
from tests import asking

PNG = b"\x89PNG\r\n\x1a\n"


def shades(figure: Figure) -> list[tuple[float, ...]]:
    return [patch.get_facecolor() for patch in figure.axes[0].patches]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_each_word_is_as_dark_as_its_weight_among_its_texts_own() -> None:
    weights = np.array([0.6, 0.3, 0.1])
    figure = draw_attention([Shaded(["so", "very", "dull"], weights, "bad (90%)", False)])
    assert texts(figure)[1:] == ["bad (90%)   darkest 60.0% of the weight", "so", "very", "dull"]
    green = [shade[1] for shade in shades(figure)]
    assert green == sorted(green)
    weaker = draw_attention([Shaded(["so", "very", "dull"], weights / 9, "", False)])
    assert shades(weaker) == shades(figure)


def test_words_stand_in_lines_side_by_side_and_long_ones_are_cut() -> None:
    words = ["w" * length for length in (40, 29, 30, 36, 35)]
    figure = draw_attention([Shaded(words, np.full(5, 0.2), "", True)])
    boxes = [patch.get_bbox() for patch in figure.axes[0].patches]
    assert all(box.x0 >= -0.4 and box.x1 <= COLUMNS + 0.4 for box in boxes)
    assert [round(box.y0 - boxes[0].y0) for box in boxes] == [0, 0, 0, 1, 1]
    assert texts(figure)[2] == "w" * 29 + "…"
    for one, other in itertools.pairwise(boxes):
        assert one.y0 < other.y0 or one.x1 < other.x0


def test_of_a_long_text_the_stretch_with_most_weight_is_shown() -> None:
    words = [str(number) for number in range(300)]
    weights = np.full(300, 0.001)
    weights[[200, 230]] = 0.3
    figure = draw_attention([Shaded(words, weights, "good (80%)", False)])
    shown = texts(figure)[2:]
    assert len(shown) == MOST_WORDS
    assert {"200", "230"} <= set(shown)
    assert f"words {int(shown[0]) + 1} to {int(shown[-1]) + 1} of 300" in texts(figure)[1]


def test_anything_may_be_a_word() -> None:
    words = ["$x$", "_a_", "你好", "\\frac", "{", "naïve", "🎬", "𓀀"]
    for weights in (np.zeros(8), np.full(8, np.nan), np.full(8, 0.125)):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert png(draw_attention([Shaded(words, weights, "$", True)])).startswith(PNG)
    assert png(draw_attention([])).startswith(PNG)


class Weighing(nn.Module):
    """Each word weighs as its id; of two words, says the class of the first."""

    def __init__(self, some: bool = True) -> None:
        super().__init__()
        self.dense = nn.Linear(1, 1)
        self.some = some

    def forward(self, ids: Tensor) -> Tensor:
        return 5.0 * functional.one_hot(ids[:, 0].long() % 2, 2)

    def attention_weights(self, ids: Tensor) -> Tensor | None:
        return ids / ids.sum(1, keepdim=True) if self.some else None


def figures_of(model: nn.Module) -> Evaluation:
    words = ["", "one", "two", "three", "four"]
    task = TextClassification(model, asking.texts(words, ["even", "odd"]))
    given = {"input": torch.tensor([[1, 3, 4], [2, 2, 0]]), "target": torch.tensor([1, 1])}
    return asking.evaluated(task, [given])


def test_an_evaluation_offers_the_attention_of_a_model_that_has_some() -> None:
    figure = figures_of(Weighing()).figures["attention"]()
    shown = texts(figure)[1:]
    assert sorted(shown) == sorted(
        [
            "odd (99%)   darkest 50.0% of the weight",
            *("one", "three", "four"),
            "even (99%), true: odd   darkest 50.0% of the weight",
            *("two", "two"),
        ]
    )
    assert png(figure).startswith(PNG)
    assert "attention" not in figures_of(Weighing(some=False)).figures
