"""Forecasts from the command to what comes next: whole runs on a few short series."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.cli import dispatch
from dltrain.contracts.data import DataSpec, Field
from dltrain.errors import UserError
from dltrain.from_python import train
from dltrain.inference.predictor import Predictor
from dltrain.metrics.forecasting import naive, seasonal_naive
from dltrain.models.sequence.decoder import Decoder
from dltrain.models.sequence.linear_forecast import LinearForecast
from dltrain.models.sequence.recurrent import LSTM
from dltrain.tasks.forecasting import Forecasting
from dltrain.tasks.losses.regression import Huber, Poisson
from tests.asking import evaluated
from tests.series import write_series

DATA = ("data=series", "data.history=10", "data.horizon=4", "data.season=6", "device=cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("series")
    write_series(made / "series.csv")
    return made


@pytest.fixture(scope="module")
def run(folder: Path) -> Predictor:
    return train(
        [
            *(*DATA, "model=linear", "data.target=all", f"data.path={folder / 'series.csv'}"),
            *("optimizer.lr=0.05", "trainer.epochs=20", "trainer.evaluate_every=20"),
            f"output_dir={folder / 'runs'}",
        ]
    )


def test_a_switch_of_training_is_none_of_a_prediction(run: Predictor, folder: Path) -> None:
    head, *rows = (folder / "series.csv").read_text().splitlines()
    (folder / "back.csv").write_text("\n".join([head, *rows[::-1]]))
    with pytest.raises(UserError, match=r"data\.sort=true puts .*\. A run reads .*: mend this one"):
        dispatch(["predict", str(run.path), str(folder / "back.csv")])


def test_a_run_stands_beside_naive_forecasts(run: Predictor) -> None:
    found = json.loads((run.path / "summary.json").read_text(encoding="utf-8"))["test"]
    assert found["mse"] < found["baseline_seasonal_naive_mse"] < found["baseline_naive_mse"]
    assert {"mae", "loss", "baseline_naive_mae", "baseline_seasonal_naive_mae"} <= set(found)
    with (run.path / "tables" / "test_horizon.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    mean = sum(float(row["mse"]) for row in rows) / 4
    assert mean == pytest.approx(found["mse"], rel=1e-6)
    assert (run.path / "figures" / "test_forecasts.png").is_file()
    assert (run.path / "figures" / "test_errors_by_step.png").is_file()


def test_its_folder_is_enough_to_go_on_where_a_file_ends(
    run: Predictor, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = write_series(folder / "new.csv", 50)
    (answer,) = run.predict(new)
    truth = [20 + 3 * (n % 6) for n in range(50, 54)]
    assert [step["a"] for step in answer["forecast"]] == pytest.approx(truth, abs=1)
    assert answer["forecast"][0]["when"] == "2024-01-03 02:00:00"
    written = ["--out", str(folder / "f.csv"), "--figure", str(folder / "f.png")]
    assert dispatch(["predict", str(run.path), str(new), *written]) == 0
    assert (folder / "f.png").is_file()
    assert "4 predictions" in capsys.readouterr().out
    lines = (folder / "f.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "series,when,a,b" and len(lines) == 5
    assert lines[4].startswith("1,2024-01-03 05:00:00,")


def test_another_file_is_evaluated_in_its_own_windows(run: Predictor, folder: Path) -> None:
    other = write_series(folder / "other.csv", 110)
    data = f"data=series data.path={other} data.history=10 data.horizon=4"
    turned = run.evaluate(data=f"{data} data.target=[b,a]").evaluation.scalars
    assert turned == pytest.approx(run.evaluate(data=f"{data} data.target=all").evaluation.scalars)
    for change, said in (
        ("data.target=all data.history=8", r"is of shape \(8, 2\), not \(10, 2\)"),
        ("data.target=all data.horizon=3", r"have \(3,\) steps, and this run's \(4,\)"),
        ("data.target=a", "no series 'b', which the run forecasts"),
    ):
        with pytest.raises(UserError, match=said):
            run.evaluate(data=f"{data} {change}")


@pytest.mark.parametrize(
    "model",
    [
        ["model=lstm", "model.hidden_size=4", "task.level=last"],
        ["model=transformer", "model.layers=1", "model.heads=1", "model.embedding_size=8"],
        ["model=mlp", "model.hidden=[8]", "task.level=mean", "task/loss=huber"],
        ["model=linear", "model.individual=true", "model.kernel=5"],
    ],
    ids=lambda words: words[0],
)
def test_whatever_reads_sequences_forecasts(folder: Path, model: list[str]) -> None:
    found = train(
        [
            *(*DATA, "data.target=[b,a]", f"data.path={folder / 'series.csv'}", *model),
            *("trainer.steps=2", "callbacks=none", f"output_dir={folder / 'runs'}"),
        ]
    )
    assert len(found.predict(folder / "series.csv")[0]["forecast"]) == 4


def spec(history: int = 6, horizon: int = 2, period: int | None = 3, **changes: Any) -> DataSpec:
    names, mean, std = ("a", "b"), (1.0, 2.0), (2.0, 4.0)
    source = Field((history, 3), "number", "input", names=(*names, "c"))
    settings = {"names": names, "mean": mean, "std": std, "period": period} | changes
    return DataSpec(
        {"input": source, "target": Field((horizon, 2), "number", "target", **settings)}
    )


class Last(nn.Module):
    """Says of every step ahead what the last one is."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs[:, -1:, :2].expand(-1, 2, -1).flatten(1)


def test_naive_forecasts_repeat_the_last_step_and_the_last_season() -> None:
    history = torch.arange(5.0)[None, :, None]
    assert naive(history, 3)[0, :, 0].tolist() == [4, 4, 4]
    assert seasonal_naive(history, 4, 3)[0, :, 0].tolist() == [2, 3, 4, 2]


def test_a_network_that_is_naive_is_told_so_and_its_errors_are_those_of_scaled_series() -> None:
    batch = {"input": torch.randn(5, 6, 3), "target": torch.randn(5, 2, 2).double()}
    found = evaluated(Forecasting(Last(), spec()), [batch], final=True)
    scaled = (batch["target"] - torch.tensor([1, 2])) / torch.tensor([2, 4])
    mse = float((batch["input"][:, -1:, :2] - scaled).square().mean())
    assert found.scalars["mse"] == pytest.approx(mse)
    assert found.scalars["baseline_naive_mse"] == pytest.approx(mse)
    (warning,) = [one for one in found.warnings if "no better than" in one]
    assert "the naive forecast" in warning
    without = evaluated(Forecasting(Last(), spec(period=7)), [batch], final=True)
    assert "baseline_seasonal_naive_mse" not in without.scalars


def test_the_level_is_taken_away_and_given_back() -> None:
    class Zero(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            self.inputs = inputs
            return torch.zeros(len(inputs), 4)

    inputs = torch.randn(3, 6, 3)
    for level, expected in (("last", inputs[:, -1]), ("mean", inputs.mean(1))):
        task = Forecasting(Zero(), spec(), level=level)  # type: ignore[arg-type]
        scaled = task({"input": inputs})["scaled"]
        assert torch.allclose(scaled, expected[:, None, :2].expand(-1, 2, -1))
        assert torch.allclose(task.model.inputs, inputs - expected[:, None])


def test_a_linear_map_reads_its_own_series_and_a_trend_is_a_moving_average() -> None:
    torch.manual_seed(0)
    for settings in ({}, {"individual": True}, {"kernel": 3}):
        network = LinearForecast(spec(), **settings)  # type: ignore[arg-type]
        inputs = torch.randn(4, 6, 3)
        other = inputs.clone()
        other[..., 1:] += 1
        before, after = network(inputs).unflatten(1, (2, 2)), network(other).unflatten(1, (2, 2))
        assert torch.equal(before[..., 0], after[..., 0])
        assert not torch.allclose(before[..., 1], after[..., 1])
    plain = LinearForecast(spec())
    wanted = plain.weight[0] @ inputs[0, :, 0] + plain.bias[0]
    assert torch.allclose(plain(inputs)[0, ::2], wanted, atol=1e-6)
    split = LinearForecast(spec(), kernel=3)
    past = inputs[0, :, 1]
    padded = torch.cat([past[:1], past, past[-1:]])
    trend = padded.unfold(0, 3, 1).mean(1)
    wanted = split.weight[0] @ torch.cat([trend, past - trend]) + split.bias[0]
    assert torch.allclose(split(inputs)[0, 1::2], wanted, atol=1e-6)


def test_a_decoder_sees_all_of_a_history() -> None:
    network = Decoder(spec(), outputs=4, layers=1, heads=1, embedding_size=8)
    inputs = torch.randn(2, 6, 3)
    assert network(inputs).shape == (2, 4)
    other = inputs.clone()
    other[:, 0] += 1
    assert not torch.allclose(network(inputs), network(other))
    assert LSTM(spec(), outputs=4, hidden_size=3)(inputs).shape == (2, 4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearForecast(spec(), kernel=4), "kernel must be odd"),
        (lambda: LinearForecast(spec(), kernel=0), "kernel must be at least 1"),
        (
            lambda: LinearForecast(DataSpec({"input": Field((3,), "number", "input")})),
            "forecasts series, as data=series has them",
        ),
        (lambda: Forecasting(Last(), spec(names=("b", "a"))), "as its first series"),
        (lambda: Forecasting(Last(), spec(), Poisson()), "take mse, mae or huber"),
        (
            lambda: Forecasting(
                Last(),
                DataSpec(
                    {
                        "input": Field((3,), "number", "input"),
                        "target": Field((), "class", "target", size=2),
                    }
                ),
            ),
            "this data's input is number and its target class",
        ),
    ],
)
def test_what_is_no_forecast_is_refused(make: Any, message: str) -> None:
    Forecasting(Last(), spec(), Huber())
    with pytest.raises(ValueError, match=message):
        make()
