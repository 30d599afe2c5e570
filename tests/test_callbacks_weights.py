"""Weights as images and histograms: the right numbers, and a run that does not notice."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from dltrain.assemble import Assembly
from dltrain.callbacks.weights import Weights, first_filters
from dltrain.contracts.data import Placement
from dltrain.reports.canvas import png
from dltrain.reports.weights import MOST_FILTERS, MOST_LAYERS, draw_filters, draw_histograms
from tests.conftest import Compose, Train
from tests.interrupting import interrupted

PNG = b"\x89PNG\r\n\x1a\n"
# Eight batches an epoch, so that each epoch ends in the middle of an accumulation; dropout draws
# from the global generator, batch norm has buffers.
DIGITS = (
    "model=cnn",
    "model.channels=[4]",
    "model.dense=[8]",
    "model.batch_norm=true",
    "model.dropout=0.5",
    "data.limit=255",
    "data.augment.rotate=10",
    "optimizer=adam",
    "trainer.accumulate=3",
    "trainer.epochs=2",
    "trainer.evaluate_every=1",
)
STEPS = [8, 16]
WATCHED = ("callbacks=[tensorboard,weights]", "callbacks.weights.gradients=true")


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


def digest(state: Any) -> str:
    """A short word for every number of a state, exactly: states that differ are long to print."""
    return hashlib.sha256(repr(flat(state)).encode()).hexdigest()


def flat(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.tolist()
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    return [flat(value) for value in state] if isinstance(state, (list, tuple)) else state


def histogram(events: EventAccumulator, tag: str) -> dict[int, np.ndarray[Any, Any]]:
    """Buckets (n, 3) of left, right and count, by step."""
    return {event.step: make_ndarray(event.tensor_proto) for event in events.Tensors(tag)}


def test_a_run_is_the_same_with_and_without_it(train: Train) -> None:
    plain, watched = train(*DIGITS).folder, train(*DIGITS, *WATCHED).folder
    assert (watched / "figures" / "gradients.png").exists()
    assert (plain / "metrics.csv").read_bytes() == (watched / "metrics.csv").read_bytes()
    one, other = checkpoint(plain), checkpoint(watched)
    for part in ("task", "optimize", "random"):
        assert digest(one[part]) == digest(other[part]), part


def test_tensorboard_has_a_histogram_a_layer_and_evaluation_in_the_runs_own_file(
    train: Train,
) -> None:
    folder = train(*DIGITS, *WATCHED).folder
    files = Counter(path.parent for path in folder.rglob("events.out.tfevents.*"))
    assert files == {folder: 1}

    events = EventAccumulator(str(folder), {"tensors": 0, "images": 0}).Reload()
    layers = ("model.features.0", "model.classifier.1", "model.classifier.4")
    for what in ("weights", "gradients"):
        tags = {tag for tag in events.Tags()["tensors"] if tag.startswith(f"{what}/")}
        assert tags == {f"{what}/{layer}" for layer in layers}
        for layer in layers:
            assert list(histogram(events, f"{what}/{layer}")) == STEPS
    last = histogram(events, "weights/model.features.0")[STEPS[-1]]
    kernels = checkpoint(folder)["task"]["model.features.0.weight"]
    assert last[:, 2].sum() == kernels.numel()
    assert last[0, 0] == pytest.approx(float(kernels.min()))
    assert last[-1, 1] == pytest.approx(float(kernels.max()))
    for name in ("weights", "gradients", "filters"):
        (image,) = events.Images(f"weights/{name}")
        assert image.encoded_image_string == (folder / "figures" / f"{name}.png").read_bytes()


def test_gradients_are_those_of_the_loss_on_one_training_batch(
    train: Train, compose: Compose
) -> None:
    """Of a linear model without anything random they are known in closed form."""
    settings = ("model=logreg", "data=digits", "trainer.epochs=1", "data.batch_size=full")
    folder = train(*settings, "callbacks=[tensorboard,weights]", WATCHED[1]).folder
    events = EventAccumulator(str(folder), {"tensors": 0}).Reload()
    (buckets,) = histogram(events, "gradients/model.linear").values()

    state = checkpoint(folder)["task"]
    with Assembly(compose(*settings, "callbacks=none", "device=cpu")) as assembly:
        streams = assembly.read().source.open(Placement(torch.device("cpu"), 0))
        batch = next(streams["train"].batches(0))
    inputs = batch["input"].flatten(1)
    logits = inputs @ state["model.linear.weight"].T + state["model.linear.bias"]
    errors = logits.softmax(1) - torch.nn.functional.one_hot(batch["target"], 10)
    expected = errors.T @ inputs / len(inputs)
    assert buckets[0, 0] == pytest.approx(float(expected.min()), rel=1e-4)
    assert buckets[-1, 1] == pytest.approx(float(expected.max()), rel=1e-4)
    assert buckets[:, 2].sum() == expected.numel()


def test_images_are_written_without_tensorboard_and_gradients_only_when_asked(
    train: Train,
) -> None:
    folder = train(*DIGITS, "callbacks=[weights]").folder
    images = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    assert set(images) == {"weights.png", "filters.png"}
    assert all(image.startswith(PNG) for image in images.values())
    table = train("model=linreg", "data=diabetes", "trainer.epochs=1", "callbacks=[weights]").folder
    assert [path.name for path in (table / "figures").iterdir()] == ["weights.png"]


def test_an_interrupted_run_has_its_images_too(
    train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    with interrupted(monkeypatch, Weights, STEPS[0]):
        folder = train(*DIGITS, "callbacks=[weights]").folder
    assert checkpoint(folder)["loop"]["step"] == STEPS[0]
    assert {path.name for path in (folder / "figures").iterdir()} == {"weights.png", "filters.png"}


def test_a_convolution_or_a_dense_layer_that_looks_at_images_has_filters(
    compose: Compose,
) -> None:
    shapes = {}
    for model in ("cnn", "mlp", "logreg"):
        config = compose("callbacks=none", "device=cpu", "data=digits", f"model={model}")
        with Assembly(config) as assembly:
            parts = assembly.read()
        filters = first_filters(parts.task, (1, 8, 8))
        assert filters is not None
        first = next(p for p in parts.task.parameters() if p.ndim > 1)
        assert torch.equal(filters.flatten(), first.detach().flatten())
        shapes[model] = tuple(filters.shape)
        assert first_filters(parts.task, (64,)) is None
    assert shapes == {"cnn": (32, 1, 3, 3), "mlp": (256, 1, 8, 8), "logreg": (10, 1, 8, 8)}


@pytest.mark.parametrize(
    ("shape", "title"),
    [
        ((6, 1, 5, 5), "First layer: 6 filters of 5×5"),
        ((1, 2, 3, 4), "First layer: 1 filters of 3×4"),
        ((256, 3, 11, 11), "First layer: the first 100 of 256 filters of 11×11; gray is 0"),
    ],
)
def test_each_filter_has_a_tile(shape: tuple[int, ...], title: str) -> None:
    filters = np.random.default_rng(0).normal(size=shape)
    figure = draw_filters(filters)
    (mosaic,) = (np.ma.filled(image.get_array(), np.nan) for image in figure.axes[0].images)
    _, channels, height, width = shape
    if channels == 3:
        # The extreme weight of a filter is fully bright or fully dark.
        assert mosaic.min() >= 0
        assert mosaic.max() <= 1
        tile = filters[0] / np.abs(filters[0]).max()
        np.testing.assert_allclose(mosaic[:height, :width].transpose(2, 0, 1), 0.5 + tile / 2)
    else:
        np.testing.assert_allclose(mosaic[:height, :width], filters[0].mean(0))
        assert np.isfinite(mosaic).sum() == min(shape[0], MOST_FILTERS) * height * width
    assert figure.axes[0].get_title() == title
    assert png(figure).startswith(PNG)


def test_filters_of_zeros_are_drawn() -> None:
    for channels in (1, 3):
        assert png(draw_filters(np.zeros((2, channels, 3, 3)))).startswith(PNG)


def test_each_layer_has_a_panel_that_says_how_many_are_near_zero() -> None:
    values = np.concatenate((np.zeros(30), np.full(69, 0.5), [2.0]))
    figure = draw_histograms({"dense": values}, "weights")
    (axes,) = figure.axes
    assert axes.get_title().endswith("near zero 30%")
    assert sum(bars.get_data().values.sum() for bars in axes.patches) == 100
    layers = {f"layer {number}": np.zeros(number) for number in range(1, 41)}
    many = draw_histograms(layers, "weights")
    assert len(many.axes) == MOST_LAYERS
    assert f"{MOST_LAYERS} of 40 layers" in many.get_suptitle()
    assert png(many).startswith(PNG)


def test_l1_leaves_more_weights_near_zero_than_l2(train: Train) -> None:
    """By the fraction that the figure tells, of the layer that has most to drop."""
    settings = ("model=mlp", "model.hidden=[32]", "data=digits", "trainer.epochs=12")
    near = {}
    for name in ("l1", "l2"):
        strength = f"regularizer.{name}.strength=0.002"
        folder = train(*settings, f"regularizer={name}", strength).folder
        weights = checkpoint(folder)["task"]["model.layers.1.weight"].numpy()
        (axes,) = draw_histograms({"first": weights}, "weights").axes
        near[name] = int(axes.get_title().rpartition(" ")[2].rstrip("%"))
    assert near["l1"] > 2 * near["l2"]
