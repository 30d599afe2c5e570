"""What is drawn of a classifier: scikit-learn's numbers, the right images, the right places."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from torch import Tensor, nn

from dltrain.contracts.data import Batch, DataSpec, Field
from dltrain.contracts.metric import Evaluation
from dltrain.metrics.classification import SAMPLES, calibration, calibration_error, ranking
from dltrain.reports.canvas import png
from dltrain.reports.plane import Plane
from dltrain.tasks.classification import Classification
from tests.asking import classes, evaluated
from tests.conftest import REPOSITORY

PNG = b"\x89PNG\r\n\x1a\n"


class Told(nn.Module):
    """A network whose logits are the first values of its inputs."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.asked: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked.append(len(inputs))
        return inputs.flatten(1)[:, : self.classes]


def names(count: int) -> list[str]:
    return [f"class {number}" for number in range(count)]


def batches(inputs: Tensor, targets: Tensor, size: int) -> Iterator[Batch]:
    for low in range(0, len(targets), size):
        yield {"input": inputs[low : low + size], "target": targets[low : low + size]}


def figures_of(inputs: Tensor, targets: Tensor, count: int, size: int = 7) -> Evaluation:
    task = Classification(Told(count), classes(names(count), *inputs.shape[1:]))
    return evaluated(task, batches(inputs, targets, size))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legends(figure: Figure) -> list[list[str]]:
    found = [axes.get_legend() for axes in figure.axes]
    return [[text.get_text() for text in legend.get_texts()] for legend in found if legend]


def draws(seed: int, count: int, classes: int) -> tuple[Tensor, Tensor]:
    """Logits (count, classes) that know something of their targets (count,)."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(classes, (count,), generator=generator)
    logits = torch.randn(count, classes, generator=generator)
    return logits + 1.5 * nn.functional.one_hot(targets, classes), targets


@pytest.mark.parametrize("ties", [False, True])
def test_areas_under_the_curves_are_those_of_scikit_learn(ties: bool) -> None:
    logits, targets = draws(0, 300, 4)
    scores = logits[:, 1].mul(2).round() if ties else logits[:, 1]
    found, positive = ranking(scores, targets == 1), (targets == 1).numpy()

    assert found.auc == pytest.approx(sk.roc_auc_score(positive, scores), abs=1e-12)
    expected = sk.average_precision_score(positive, scores)
    assert found.average_precision == pytest.approx(expected, abs=1e-12)
    fpr, recall, _ = sk.roc_curve(positive, scores, drop_intermediate=False)
    np.testing.assert_allclose(found.false_positive_rate, fpr)
    np.testing.assert_allclose(found.recall, recall)
    precision, _, _ = sk.precision_recall_curve(positive, scores)
    np.testing.assert_allclose(found.precision, precision[::-1])


def test_calibration_is_that_of_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(1)
    confidence = torch.rand(500, generator=generator) * 0.7 + 0.3
    confidence[0] = 1.0
    hits = torch.rand(500, generator=generator) < confidence**2
    bins = calibration(confidence, hits)

    accuracy, means = calibration_curve(hits, confidence, n_bins=15)
    np.testing.assert_allclose([b.accuracy for b in bins], accuracy)
    np.testing.assert_allclose([b.confidence for b in bins], means)
    assert sum(b.examples for b in bins) == 500
    assert all(b.low < b.confidence <= b.high for b in bins)
    counts, _ = np.histogram(confidence, 15, (0, 1))
    expected = np.abs(accuracy - means) @ counts[counts > 0] / 500
    assert calibration_error(bins) == pytest.approx(expected, abs=1e-12)


def test_a_confidence_that_is_not_a_number_is_in_no_bin() -> None:
    bins = calibration(torch.tensor([float("nan"), 0.5]), torch.tensor([True, True]))
    assert [b.examples for b in bins] == [1]
    assert calibration_error([]) == 0


def test_the_legend_tells_each_class_with_its_areas() -> None:
    logits, targets = draws(2, 400, 3)
    figure = figures_of(logits, targets, 3).figures["roc_and_precision_recall"]()
    probabilities = logits.softmax(1)
    aucs = sk.roc_auc_score(targets, probabilities, average=None, multi_class="ovr")
    precisions = sk.average_precision_score(targets, probabilities, average=None)

    assert legends(figure) == [
        [f"class {number} ({area:.4f})" for number, area in enumerate(areas)]
        for areas in (aucs, precisions)
    ]


def test_of_many_classes_the_mean_and_the_weakest_are_drawn() -> None:
    logits, targets = draws(3, 2_000, 20)
    figure = figures_of(logits, targets, 20).figures["roc_and_precision_recall"]()
    probabilities = logits.softmax(1)
    aucs = sk.roc_auc_score(targets, probabilities, average=None, multi_class="ovr")

    weakest = [f"class {number} ({aucs[number]:.4f})" for number in np.argsort(aucs)[:3]]
    assert legends(figure)[0] == [f"mean of 20 classes ({aucs.mean():.4f})", *weakest]
    assert png(figure).startswith(PNG)


def test_a_class_that_does_not_occur_has_no_curve() -> None:
    logits, targets = draws(4, 50, 3)
    figure = figures_of(logits, targets.clamp_max(1), 3).figures["roc_and_precision_recall"]()
    assert [len(legend) for legend in legends(figure)] == [2, 2]
    lonely = figures_of(logits, torch.zeros_like(targets), 3).figures["roc_and_precision_recall"]()
    assert legends(lonely) == []
    assert png(lonely).startswith(PNG)


def test_calibration_is_told_as_image_table_and_sentence() -> None:
    logits, targets = draws(5, 300, 3)
    evaluation = figures_of(logits, targets, 3)
    confidence, predicted = logits.softmax(1).max(1)
    error = f"{calibration_error(calibration(confidence, predicted == targets)):.2%}"

    assert error in evaluation.texts["calibration"]
    assert error in evaluation.figures["calibration"]().axes[0].get_title()
    assert sum(int(row[2]) for row in evaluation.tables["calibration"].rows) == 300


@pytest.mark.parametrize("size", [5, 64, 300])
def test_the_most_confident_mistakes_come_first_however_the_split_is_cut(size: int) -> None:
    logits, targets = draws(6, 300, 4)
    images = logits.reshape(300, 1, 2, 2)
    figure = figures_of(images, targets, 4, size).figures["mistakes"]()

    confidence, predicted = logits.softmax(1).max(1)
    wrong = (predicted != targets).nonzero()[:, 0]
    worst = wrong[confidence[wrong].argsort(descending=True)][:SAMPLES]
    expected = [
        f"class {predicted[n]} ({confidence[n]:.0%})\ntrue: class {targets[n]}" for n in worst
    ]
    assert texts(figure) == [*expected, f"{len(wrong)} of 300 wrong: the 16 most confident"]
    shown = [image.get_array() for image in figure.axes[0].images]
    np.testing.assert_allclose(shown[0], images[worst[0], 0].clamp(0, 1))


def test_without_a_mistake_the_image_says_so() -> None:
    targets = torch.tensor([0, 1, 1])
    images = 9.0 * nn.functional.one_hot(targets, 4).reshape(3, 1, 2, 2)
    figure = figures_of(images, targets, 4).figures["mistakes"]()
    assert texts(figure) == ["0 of 3 wrong"]
    assert png(figure).startswith(PNG)


def test_an_evaluation_keeps_a_few_images_and_not_the_split() -> None:
    shape = (1, 3, 7)
    task = Classification(Told(4), classes(names(4), *shape))

    def made() -> Iterator[Batch]:
        for seed in range(4):
            _, targets = draws(seed, 500, 4)
            yield {"input": torch.rand(500, *shape), "target": targets}

    evaluation = evaluated(task, made())
    gc.collect()

    assert "mistakes" in evaluation.figures
    held = [o for o in gc.get_objects() if type(o) is Tensor and o.shape[1:] == shape]
    assert 0 < sum(images.untyped_storage().nbytes() for images in held) <= 2 * SAMPLES * 4 * 21


@pytest.mark.parametrize("count", [40, 1000])
def test_examples_of_all_classes_are_shown_however_the_split_is_ordered_or_cut(count: int) -> None:
    logits = draws(10, count, 4)[0].sigmoid()
    targets = torch.arange(count) * 4 // count  # as a folder of folders is read
    images = logits.reshape(count, 1, 2, 2)
    shown = []
    for size in (7, count):
        figure = figures_of(images, targets, 4, size).figures["predictions"]()
        shown.append(np.array([image.get_array() for image in figure.axes[0].images]))
    np.testing.assert_array_equal(*shown)
    pixels = images[:, 0].numpy()
    rows = [int(np.abs(pixels - one).sum((1, 2)).argmin()) for one in shown[0]]
    assert len(set(rows)) == SAMPLES
    assert min(Counter(targets[rows].tolist()).values()) >= 3
    assert len(Counter(targets[rows].tolist())) == 4


def test_what_an_input_is_the_data_says_and_not_its_shape() -> None:
    inputs, targets = torch.rand(6, 3, 2, 2), torch.arange(6) % 3
    number = Field((3, 2, 2), "number", "input")
    image = Field((3, 2, 2), "image", "input")
    for source, shown in ((number, False), (image, True)):
        spec = DataSpec({"input": source, "target": classes(names(3), 1).target})
        figures = evaluated(Classification(Told(3), spec), batches(inputs, targets, 4)).figures
        assert ({"predictions", "mistakes"} <= set(figures)) == shown


def test_logits_that_are_not_numbers_are_drawn_all_the_same() -> None:
    logits, targets = draws(7, 40, 4)
    logits[::2] = float("nan")
    for draw in figures_of(logits.reshape(40, 1, 2, 2), targets, 4).figures.values():
        assert png(draw()).startswith(PNG)


def test_a_plane_is_looked_at_row_by_row_with_a_margin() -> None:
    plane = Plane.around(torch.tensor([[0.0, 5.0], [1.0, 5.0]]), 3)
    assert plane[:4] == pytest.approx((-0.15, 1.15, 4, 6))
    assert plane.grid()[:4].tolist() == [
        pytest.approx(place) for place in ([-0.15, 4], [0.5, 4], [1.15, 4], [-0.15, 5])
    ]


def test_the_decision_boundary_lies_where_the_network_changes_its_mind() -> None:
    """Two features as logits: the classes part where both are equal."""
    generator = torch.Generator().manual_seed(8)
    points = torch.rand(60, 2, generator=generator)
    targets = (points[:, 1] > points[:, 0]).long()
    task = Classification(Told(2), classes(names(2), 2, names=("width", "height")))
    figure = evaluated(task, batches(points, targets, 25)).figures["decision_boundary"]()

    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("width", "height")
    # Points of either class are collections, and so is the line between them.
    (line,) = (c for c in axes.collections if hasattr(c, "levels"))
    (path,) = line.get_paths()
    np.testing.assert_allclose(path.vertices[:, 0], path.vertices[:, 1], atol=1e-5)
    offsets = np.concatenate([c.get_offsets() for c in axes.collections if c is not line])
    assert len(offsets) == 60
    assert png(figure).startswith(PNG)


@pytest.mark.parametrize("count", [1, 3, 9])
def test_a_boundary_of_any_number_of_classes_is_drawn(count: int) -> None:
    generator = torch.Generator().manual_seed(9)
    linear = nn.Linear(2, count)
    points = torch.rand(30, 2, generator=generator)
    targets = torch.randint(count, (30,), generator=generator)
    task = Classification(linear, classes(names(count), 2))
    figure = evaluated(task, batches(points, targets, 30)).figures["decision_boundary"]()
    assert len(legends(figure)[0]) == count
    assert png(figure).startswith(PNG)


def test_an_evaluation_asks_once_for_each_example_and_imports_no_matplotlib() -> None:
    program = """
import sys
import torch
from dltrain.tasks.classification import Classification
from tests.asking import classes, evaluated
asked = []
class Net(torch.nn.Module):
    def forward(self, inputs):
        asked.append(len(inputs))
        return inputs.flatten(1)[:, :2]
for shape in ((8, 1, 2, 2), (8, 2)):
    batch = {"input": torch.rand(shape), "target": torch.arange(8) % 2}
    evaluated(Classification(Net(), classes("ab", *shape[1:])), [batch, batch])
assert asked == [8, 8, 8, 8, 80 * 80], asked
assert "matplotlib" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=REPOSITORY)
