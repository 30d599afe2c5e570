"""What is drawn of a regression: the fitted line, and what it leaves over."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from dltrain.contracts.metric import Evaluation
from dltrain.reports.canvas import png
from dltrain.reports.numbers import MOST_POINTS, draw_fit, draw_residuals
from dltrain.tasks.regression import Regression
from tests.asking import evaluated, numbers

PNG = b"\x89PNG\r\n\x1a\n"


class Square(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :1].square()


def figures_of(inputs: Tensor, targets: Tensor, *names: str) -> Evaluation:
    task = Regression(Square(), numbers(*inputs.shape[1:], names=names))
    halves = zip(inputs.split(3), targets.split(3), strict=True)
    return evaluated(task, ({"input": i, "target": t} for i, t in halves))


def points(figure: Figure) -> list[list[float]]:
    return np.asarray(figure.axes[0].collections[0].get_offsets()).tolist()


@pytest.mark.parametrize("shape", [(5, 1), (5, 1, 1, 1)])
def test_the_fitted_curve_is_the_networks_between_the_examples(shape: tuple[int, ...]) -> None:
    inputs, targets = torch.arange(-2.0, 3.0).view(shape), torch.ones(5, 1)
    figure = figures_of(inputs, targets, "speed").figures["fit"]()

    (line,) = figure.axes[0].lines
    x, y = (np.asarray(values) for values in line.get_data())
    assert (x.min(), x.max()) == (-2, 2)
    assert len(x) > 100
    np.testing.assert_allclose(y, x**2, atol=1e-5)
    assert points(figure) == [[x, 1] for x in range(-2, 3)]
    assert figure.axes[0].get_xlabel() == "speed"
    assert png(figure).startswith(PNG)


def test_only_one_feature_has_a_fitted_line() -> None:
    figures = figures_of(torch.rand(5, 2), torch.rand(5, 1)).figures
    assert set(figures) == {"predicted_against_true", "residuals"}


def test_where_nothing_is_left_there_is_no_figure_of_residuals() -> None:
    inputs = torch.arange(1.0, 9.0)[:, None]
    assert "residuals" not in figures_of(inputs, inputs**2 * 1.0000001).figures


def test_residuals_are_what_the_predictions_leave() -> None:
    inputs, targets = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[2.0], [4.0], [6.0]])
    figure = figures_of(inputs, targets).figures["residuals"]()

    assert points(figure) == [[1, 1], [4, 0], [9, -3]]
    bars = [bar for bar in figure.axes[1].patches if bar.get_width() > 0]
    assert sum(bar.get_width() for bar in bars) == 3
    assert figure.get_suptitle().startswith("Residuals: mean -0.6667, standard deviation 1.7")


@pytest.mark.parametrize("shape", [(1, 1), (50, 3), (20_001, 1), (5, 2, 2)])
def test_residuals_of_any_shape_are_drawn(shape: tuple[int, ...]) -> None:
    targets = np.random.default_rng(0).normal(size=shape)
    figure = draw_residuals(np.zeros(shape), targets)
    drawn = sum(len(collection.get_offsets()) for collection in figure.axes[0].collections)
    assert 0 < drawn <= MOST_POINTS
    assert png(figure).startswith(PNG)


def test_of_many_examples_some_are_drawn_beside_the_line() -> None:
    x = np.linspace(0, 1, 3 * MOST_POINTS)
    figure = draw_fit(x, x, x[:2], x[:2], "x")
    assert len(points(figure)) == MOST_POINTS
