"""The gradient by time step: right in closed form, and a run that does not notice."""

from __future__ import annotations

import csv
import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn

from dltrain import training as run
from dltrain.assemble import Assembly
from dltrain.callbacks.sensitivity import Sensitivity, gradient_by_time
from dltrain.contracts.data import Placement
from dltrain.errors import UserError
from dltrain.reports.canvas import png
from dltrain.reports.sequences import MOST_CURVES, SMALLEST, draw_gradient_by_time
from dltrain.runs.finding import latest
from dltrain.runs.load import load
from dltrain.tasks.regression import Regression
from tests.asking import numbers
from tests.conftest import Compose, Train
from tests.interrupting import interrupted

PNG = b"\x89PNG\r\n\x1a\n"
# Four batches an epoch, of which three make a step: the gradients in between are not to be lost.
ADDING = (
    "data=adding",
    "data.length=7",
    "data.examples=50",
    "data.test_examples=20",
    "data.batch_size=12",
    "data.validation=10",
    "model=rnn",
    "model.hidden_size=5",
    "model.dropout=0.3",
    "trainer.accumulate=3",
    "trainer.epochs=3",
    "trainer.evaluate_every=1",
)
WITH = ("callbacks=[tensorboard,gradient_by_time]", "callbacks.gradient_by_time.examples=4")


def checkpoint(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


def curves(folder: Path) -> dict[str, Any]:
    (found,) = (state for state in checkpoint(folder)["callbacks"] if "curves" in state)
    return found


def digest(state: Any) -> str:
    """A short word for every number of a state, exactly: states that differ are long to print."""
    return hashlib.sha256(repr(flat(state)).encode()).hexdigest()


def flat(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.tolist()
    if isinstance(state, dict):
        return {key: flat(value) for key, value in state.items()}
    return [flat(value) for value in state] if isinstance(state, (list, tuple)) else state


class Fading(nn.Module):
    """A linear recurrence h' = 0.5 h + V x, whose gradients are known in closed form."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)

    def forward(self, inputs: Tensor) -> Tensor:
        states = torch.zeros(len(inputs), len(self.weights))
        for step in inputs.unbind(1):
            states = 0.5 * states + step @ self.weights.T
        return states


@pytest.mark.parametrize("weights", [[[3.0, 4.0]], [[3.0, 0.0], [0.0, 4.0]]])
def test_the_gradient_is_the_norm_over_features_and_answers(weights: list[list[float]]) -> None:
    """Of either shape of V, its Frobenius norm is 5."""
    task = Regression(Fading(torch.tensor(weights)), numbers(6, 2)).eval()
    with torch.inference_mode():
        found = gradient_by_time(task, torch.ones(3, 6, 2))
    assert found.tolist() == pytest.approx([5 * 0.5**power for power in (5, 4, 3, 2, 1, 0)])
    assert all(parameter.grad is None for parameter in task.parameters())


class Chosen(nn.Module):
    """Of the first sequence the first step alone, of any other one all steps but the last."""

    def forward(self, inputs: Tensor) -> Tensor:
        first = inputs[:, 0].sum(1, keepdim=True)
        rest = inputs[:, :-1].sum((1, 2))[:, None]
        return torch.where(inputs[:, :1, 0] > 0, first, rest)


def test_the_mean_is_over_sequences_and_what_does_not_count_is_zero() -> None:
    inputs = torch.zeros(4, 3, 1)
    inputs[0] = 1
    found = gradient_by_time(Regression(Chosen(), numbers(3, 1)).eval(), inputs)
    assert found.tolist() == pytest.approx([1, 0.75, 0])


def test_a_run_is_the_same_with_and_without_it(train: Train) -> None:
    plain, watched = train(*ADDING).folder, train(*ADDING, *WITH).folder
    assert plain != watched
    assert (plain / "metrics.csv").read_bytes() == (watched / "metrics.csv").read_bytes()
    one, other = checkpoint(plain), checkpoint(watched)
    for part in ("task", "optimize", "random"):
        assert digest(one[part]) == digest(other[part]), part


def test_there_is_a_curve_before_training_and_one_an_evaluation(
    train: Train, compose: Compose, tmp_path: Path
) -> None:
    folder = train(*ADDING, *WITH).folder
    state = curves(folder)
    assert state["steps"] == [0, 4, 8, 12]
    assert state["curves"].shape == (4, 7)

    task = load("latest", output_dir=str(tmp_path / "outputs"))
    with Assembly(compose(*ADDING, "callbacks=none", "device=cpu")) as assembly:
        streams = assembly.read().source.open(Placement(torch.device("cpu"), 0))
        inputs = next(iter(streams["validation"].plain()))["input"][:4]
    torch.testing.assert_close(state["curves"][-1], gradient_by_time(task, inputs))

    with (folder / "tables" / "gradient_by_time.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(int(row["step"]), int(row["time"])) for row in rows] == [
        (step, time) for step in (0, 4, 8, 12) for time in range(1, 8)
    ]
    norms = torch.tensor([float(row["gradient_norm"]) for row in rows])
    torch.testing.assert_close(norms, state["curves"].flatten())

    figure = (folder / "figures" / "gradient_by_time.png").read_bytes()
    events = EventAccumulator(str(folder), {"images": 0}).Reload()
    (image,) = events.Images("gradient_by_time")
    assert (image.step, image.encoded_image_string) == (12, figure)


def test_without_a_validation_split_the_test_split_is_looked_at(train: Train) -> None:
    folder = train(*ADDING, "data.validation=0", "callbacks=[gradient_by_time]").folder
    assert len(curves(folder)["steps"]) == 4


def test_a_resumed_run_ends_with_the_same_curves(
    train: Train, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(*ADDING, WITH[0].replace("tensorboard,", "")).folder
    config = compose("device=cpu", *ADDING, WITH[0].replace("tensorboard,", ""))
    with interrupted(monkeypatch, Sensitivity, 8):
        run.train({**config, "output_dir": str(tmp_path / "cut")})
    cut = latest(tmp_path / "cut")
    table = Path("tables") / "gradient_by_time.csv"
    assert len((cut / table).read_text().splitlines()) == 1 + 3 * 7
    run.resume("latest", tmp_path / "cut")
    assert (cut / table).read_bytes() == (whole / table).read_bytes()
    assert digest(curves(cut)) == digest(curves(whole))


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("data=digits", "model=mlp"), r"inputs of 1x8x8 \(image\)"),
        (("data=iris", "model=mlp"), r"inputs of 4 \(number\)"),
    ],
)
def test_data_without_time_are_refused_before_there_is_a_folder(
    overrides: tuple[str, ...], told: str, train: Train, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"callbacks\.gradient_by_time: .*{told}"):
        train("callbacks=[gradient_by_time]", *overrides)
    assert not (tmp_path / "outputs").exists()
    with pytest.raises(ValueError, match="at least 1"):
        Sensitivity(examples=0)


def test_the_first_and_the_last_of_many_curves_are_drawn() -> None:
    norms = np.outer(np.arange(1.0, 31), [1e-20, 0.0, 1e-3])
    figure = draw_gradient_by_time([10 * number for number in range(30)], norms)
    (axes,) = figure.axes
    assert len(axes.lines) == MOST_CURVES
    labels = [str(line.get_label()) for line in axes.lines]
    assert (labels[0], labels[-1]) == ("0 steps", "290 steps")
    np.testing.assert_array_equal(axes.lines[-1].get_ydata(), [3e-19, np.nan, 0.03])
    assert list(axes.lines[0].get_xdata()) == [1, 2, 3]
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] == SMALLEST


@pytest.mark.parametrize("norms", [np.zeros((3, 5)), np.ones((1, 1)), np.full((2, 4), np.nan)])
def test_any_gradients_are_drawn(norms: np.ndarray[Any, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert png(draw_gradient_by_time(range(len(norms)), norms)).startswith(PNG)
