"""Figures: what is drawn, and the files that the end of a run leaves."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from dltrain.errors import UserError
from dltrain.reports.canvas import png, render
from dltrain.reports.classes import draw_confusion_matrix, draw_predictions
from dltrain.reports.curves import draw_learning_curves
from dltrain.reports.numbers import MOST_POINTS, draw_predicted_against_true
from dltrain.runs.finding import latest
from tests.conftest import Train

PNG = b"\x89PNG\r\n\x1a\n"
TINY = (
    "callbacks=[figures]",
    "model=mlp",
    "data.limit=200",
    "trainer.epochs=2",
    "trainer.evaluate_every=1",
)


def names(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("classes", [1, 2, 10, 100])
def test_a_confusion_matrix_is_drawn_for_any_number_of_classes(classes: int) -> None:
    counts = np.eye(classes, dtype=np.int64) * 7
    counts[-1, -1] = 0  # a class without examples
    image = png(draw_confusion_matrix(counts, names(classes)))
    assert image.startswith(PNG)


def test_a_confusion_matrix_shows_its_counts_and_the_accuracy() -> None:
    figure = draw_confusion_matrix(np.array([[90, 10], [0, 100]]), names(2))
    assert sorted(texts(figure)) == ["10", "100", "90"]
    assert figure.axes[0].get_title() == "190 of 200 correct (95.00%)"
    assert figure.axes[0].get_ylabel() == "true class"


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_wrong_predictions_are_marked(channels: int) -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    images = torch.rand(2, 6, 4, channels)
    figure = draw_predictions(images, probabilities, [0, 0], names(2))
    assert texts(figure) == ["class 0 (90%)", "class 1 (80%)\ntrue: class 0"]
    assert len(figure.axes[0].patches) == 1
    assert png(figure).startswith(PNG)


@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (50, 3), (20_001, 1), (5, 2, 2)])
def test_predictions_are_drawn_against_targets_of_any_shape(shape: tuple[int, ...]) -> None:
    targets = np.zeros(shape) if shape == (1, 1) else np.random.default_rng(0).normal(size=shape)
    figure = draw_predicted_against_true(targets + 0.1, targets)
    drawn = sum(len(points.get_offsets()) for points in figure.axes[0].collections)
    assert 0 < drawn <= max(MOST_POINTS, targets.size // len(targets))
    assert png(figure).startswith(PNG)


def row(epoch: int, split: str, name: str, value: float) -> dict[str, str]:
    step = 10 * epoch if epoch else 5
    return {
        "step": str(step),
        "epoch": str(epoch),
        "split": split,
        "name": name,
        "value": str(value),
    }


def test_learning_curves_have_a_panel_a_metric_and_a_line_a_split() -> None:
    rows = [row(0, "steps", "learning_rate", 3.0), row(2, "test", "loss", 1.0)]
    for epoch in (1, 2):
        rows += [row(epoch, "train", "loss", 2.0), row(epoch, "validation", "loss", 2.5)]
        rows += [row(epoch, "validation", "f1", 0.5)]
    figure = draw_learning_curves(rows)
    lines = {
        axes.get_title(): [str(line.get_label()) for line in axes.lines] for axes in figure.axes
    }
    assert lines == {"loss": ["training", "validation"], "f1": ["validation"]}
    assert list(figure.axes[0].lines[0].get_xdata()) == [1, 2]
    assert figure.axes[0].get_xlabel() == "epoch"
    assert "running means" in figure.get_supxlabel()


def test_the_training_curve_is_by_log_interval_and_a_short_run_by_step() -> None:
    rows = [
        {"step": str(step), "epoch": str(step / 41), "split": "steps", "name": "loss", "value": "1"}
        for step in range(1, 11)
    ]
    rows.append({**rows[-1], "split": "train"})
    (axes,) = draw_learning_curves(rows).axes
    (line,) = axes.lines
    assert list(line.get_xdata()) == [*range(1, 11)]
    assert axes.get_xlabel() == "step"


def test_panels_have_one_scale_and_what_is_a_rate_none() -> None:
    rows = [
        row(epoch, "validation", name, value)
        for name, low, high in (("f1", 0.5, 0.9), ("recall", 0.2, 0.6), ("loss", 1e-3, 1.0))
        for epoch, value in ((1, low), (3, high))
    ]
    figure = draw_learning_curves(
        [*rows, row(1, "train", "tokens", 4)], {"f1": "max", "recall": "max"}, {"tokens"}
    )
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    f1, recall, loss = figure.axes
    assert f1.get_ylim() == recall.get_ylim() != loss.get_ylim()
    assert loss.get_yscale() == "log"


def test_learning_curves_without_any_evaluation_are_an_empty_image() -> None:
    assert png(draw_learning_curves([])).startswith(PNG)


def test_one_figure_is_rendered_once_and_always_to_the_same_bytes() -> None:
    drawn = 0

    def draw() -> Figure:
        nonlocal drawn
        drawn += 1
        return draw_confusion_matrix(np.eye(3, dtype=int), names(3))

    assert render(draw) == render(draw)
    assert drawn == 1
    assert render(draw) == png(draw())


def test_a_run_leaves_the_figures_of_its_last_evaluations(train: Train) -> None:
    folder = train(*TINY).folder
    images = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    drawn = ("confusion_matrix", "roc_and_precision_recall", "calibration", "predictions")
    assert set(images) == {
        *(f"{split}_{name}.png" for split in ("validation", "test") for name in drawn),
        *("validation_mistakes.png", "test_mistakes.png", "learning_curves.png"),
    }
    assert all(image.startswith(PNG) for image in images.values())


def test_a_regression_is_drawn_too(train: Train) -> None:
    folder = train("model=linreg", "data=line", "callbacks=[figures]", "trainer.epochs=5").folder
    assert {path.name for path in (folder / "figures").iterdir()} == {
        "test_predicted_against_true.png",
        "test_residuals.png",
        "test_fit.png",
        "learning_curves.png",
    }


def test_a_failed_run_is_not_drawn(train: Train, tmp_path: Any) -> None:
    with pytest.raises(UserError, match="not finite"):
        train(*TINY, "optimizer=sgd", "optimizer.lr=1e30")
    folder = latest(tmp_path / "outputs")
    assert not list((folder / "figures").iterdir())


def test_nothing_is_imported_before_it_is_needed() -> None:
    program = """
import sys
import dltrain.callbacks.figures, dltrain.callbacks.tensorboard
assert not {"matplotlib", "tensorboard"} & set(sys.modules)
from dltrain.reports.canvas import png
from dltrain.reports.curves import draw_learning_curves
png(draw_learning_curves([]))
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
