"""8-bit integers: rounding in training, and files that compute with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.commands.export import _print_int8
from dltrain.inference.export import export
from dltrain.inference.int8 import training_examples
from dltrain.inference.predictor import Predictor
from dltrain.optim.quantization import Quantize, in_floating_point
from dltrain.runs.examples import examples_of_run
from dltrain.runs.folder import RunFolder
from dltrain.tasks.classification import Classification
from tests.asking import classes
from tests.conftest import Train


def rounded(**settings: Any) -> tuple[Classification, nn.Linear]:
    torch.manual_seed(0)
    layer = nn.Linear(4, 3)
    task = Classification(nn.Sequential(layer), classes("abc", 4))
    Quantize(**settings).attach(task)
    return task, layer


def levels(values: Tensor) -> Tensor:
    """How far values (rows, …) are from a whole number of 127ths of their row's largest."""
    steps = values / values.abs().amax(1, keepdim=True) * 127
    return (steps - steps.round()).abs().max()


def test_weights_and_inputs_are_rounded_to_256_levels() -> None:
    task, layer = rounded()
    weight, inputs = layer.weight.detach().clone(), torch.rand(64, 4) * 3 - 1
    low, high = inputs.min(), inputs.max()

    with torch.no_grad():
        said = task.train().model(inputs)

    scale = (high - low) / 255
    zero = (-low / scale).round()
    by_hand = ((inputs / scale + zero).round().clamp(0, 255) - zero) * scale
    of_row = weight.abs().amax(1, keepdim=True) / 127
    weights = (weight / of_row).round() * of_row
    torch.testing.assert_close(said, by_hand @ weights.T + layer.bias)
    assert torch.equal(layer.weight, weight), "training goes on with the exact ones"


def test_the_range_is_a_mean_at_first_and_stays_in_evaluation() -> None:
    task, layer = rounded(momentum=0.25)
    highs = [1.0, 3.0, 2.0, 8.0, 5.0]
    for high in highs:
        task.train().model(torch.full((2, 4), high))
    by_hand = (1 + 3 + 2 + 8) / 4

    torch.testing.assert_close(layer.input_high, torch.tensor(0.75 * by_hand + 0.25 * 5))
    assert layer.input_low == 0
    before = layer.input_high.clone()
    task.eval().model(torch.full((2, 4), 99.0))
    assert torch.equal(layer.input_high, before)


def test_gradients_pass_through_the_rounding() -> None:
    task, layer = rounded()
    inputs = torch.rand(8, 4, requires_grad=True)
    task.train().model(inputs).sum().backward()

    assert bool((layer.weight.grad != 0).all())
    torch.testing.assert_close(inputs.grad[0], layer.rounded_weight().detach().sum(0))


def test_a_used_network_has_its_weights_on_the_levels_and_answers_the_same() -> None:
    task, layer = rounded()
    inputs = torch.rand(8, 4)
    task.train().model(inputs)
    before = task.eval().model(inputs)
    assert levels(layer.weight) > 0.01

    Quantize().finish(task)

    assert levels(layer.weight) < 1e-4
    torch.testing.assert_close(task.model(inputs), before)
    with in_floating_point(task):
        assert type(layer) is nn.Linear
    assert type(layer) is not nn.Linear


def test_what_cannot_be_quantized_is_refused_or_told(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="momentum must be above 0 and at most 1, got 0"):
        Quantize(0.0)
    spec = classes("abc", 4)
    with pytest.raises(ValueError, match="no dense layer and no convolution"):
        Quantize().attach(Classification(nn.Identity(), spec))

    mixed = nn.ModuleList([nn.Linear(4, 3), nn.LSTM(4, 4), nn.Embedding(3, 4)])
    Quantize().attach(Classification(mixed, spec))

    assert "stay in floating point: 1 LSTM, 1 Embedding" in caplog.text


@pytest.mark.parametrize("modifier", ["none", "quantize"])
def test_a_run_becomes_a_file_of_integers(train: Train, tmp_path: Path, modifier: str) -> None:
    pytest.importorskip("onnxruntime", reason="pip install 'dltrain[export]'")
    run = train("data=digits", "trainer.epochs=3", f"modifier={modifier}").folder
    folder, out = RunFolder(run), tmp_path / "int8"
    predictor = Predictor(folder)

    made = export(predictor, examples_of_run(folder), "onnx", out, training_examples(folder))

    about = json.loads((out / "export.json").read_text())
    network = about["networks"]["model"]
    assert about["measured"] == {"split": "train", "count": 512}
    assert (out / network["file"]).stat().st_size == network["bytes"]
    assert network["float_bytes"] > 3.4 * network["bytes"]
    assert network["other_classes"]["class"] <= 10
    assert 1e-6 < network["largest_difference"] < 0.2
    assert made.files == ["model.onnx", "export.json", "use.py"]


def test_a_file_that_is_hardly_smaller_is_told_why(capsys: pytest.CaptureFixture[str]) -> None:
    for size, told in ((900, True), (250, False)):
        _print_int8({"float_bytes": 1000, "bytes": size, "other_classes": {}}, {})
        assert ("that is little: only" in capsys.readouterr().out) == told
