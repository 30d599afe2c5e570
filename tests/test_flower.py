"""Federated averaging by Flower: the same weights as by our own engine, and processes that end."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.contracts.task import Task
from dltrain.errors import ConfigError, UserError
from dltrain.federated.flower import Flower
from dltrain.runs import checkpoint
from dltrain.tasks.classification import Classification
from tests.conftest import Train
from tests.test_federated import COUNT, SPEC, stream

needs_flower = pytest.mark.skipif(
    importlib.util.find_spec("flwr") is None, reason="pip install 'dltrain[flower]'"
)
RUN = (
    *("data=digits", "data.limit=120", "data.batch_size=5", "model=mlp", "model.hidden=[6]"),
    *("model.batch_norm=true", "optimizer=sgd", "optimizer.lr=0.05", "trainer.epochs=2"),
    *("federated.clients=5", "federated.per_round=3", "federated.local_epochs=2"),
)


def weights(folder: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = checkpoint.load(folder / checkpoint.LAST)["task"]
    return found


def column(folder: Path, name: str, split: str) -> list[float]:
    with (folder / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == split]
    return [float(row["value"]) for row in rows if row["name"] == name]


def flower(**settings: Any) -> Flower:
    return Flower(SPEC, **{"clients": 4, "per_round": 2, **settings})


def task() -> Task:
    return Classification(nn.Linear(3, 4), SPEC)


@needs_flower
@pytest.mark.slow
@pytest.mark.parametrize("proximal", [0.0, 0.5])
def test_flower_makes_the_weights_of_our_own_engine(train: Train, proximal: float) -> None:
    held = f"federated.proximal={proximal}"
    by_flower = train("federated=flower", *RUN, held).folder
    own = train("federated=fedavg", *RUN, held).folder
    counts = {name for name in weights(own) if name.endswith("num_batches_tracked")}
    for name, value in weights(own).items():
        if name not in counts:
            torch.testing.assert_close(weights(by_flower)[name], value, rtol=1e-5, atol=1e-6)
    for split, name in (("train", "loss"), ("validation", "loss"), ("test", "accuracy")):
        assert column(by_flower, name, split) == pytest.approx(column(own, name, split), rel=1e-5)
    # Headers of tensors come on top.
    (sent, ours) = (column(folder, "bytes_down", "validation")[-1] for folder in (by_flower, own))
    assert ours < sent < 3 * ours


@needs_flower
@pytest.mark.slow
def test_a_process_that_ends_ends_the_run(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    from dltrain.federated import flower_server

    monkeypatch.setattr(flower_server, "CLIENT", "dltrain.nothing")
    started: list[Any] = []
    begin = flower_server.Process.__init__

    def noted(self: Any, *arguments: Any) -> None:
        begin(self, *arguments)
        started.append(self._process)

    monkeypatch.setattr(flower_server.Process, "__init__", noted)
    with pytest.raises(UserError, match=r"\d has ended \(exit code 1\): .* No module named"):
        train("federated=flower", *RUN)
    assert len(started) == 2
    assert all(process.poll() is not None for process in started)


@needs_flower
@pytest.mark.slow
def test_a_start_that_takes_too_long_ends_the_run(train: Train) -> None:
    said = r"federated\.timeout: Flower could not have the processes of clients ready within 0\.1 s"
    with pytest.raises(UserError, match=said):
        train("federated=flower", *RUN, "federated.timeout=0.1")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"processes": 0}, "processes must be at least 1, got 0"),
        ({"processes": 5}, "processes must be at most the 4 clients, got 5"),
        ({"timeout": 0}, "timeout must be above 0 seconds, got 0"),
        ({"timeout": float("nan")}, "timeout must be above 0 seconds, got nan"),
        ({"proximal": -1.0}, "proximal must be at least 0"),
    ],
)
def test_what_is_out_of_bounds_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        flower(**settings)


def test_without_flower_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"needs flwr: pip install 'dltrain\[flower\]'"):
        flower().check(task())


def test_processes_of_torchrun_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match=r"torchrun started 2: type dltrain federate"):
        flower().check(task())


def test_modifiers_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"modifiers: clients begin anew .* ema would have"):
        flower().step({"modifiers": {"ema": {}}}, task())


def test_a_step_is_a_round() -> None:
    plan = flower()
    rounds = plan.streams({"train": stream(batch=3)})["train"]
    # 10 examples a client in batches of 3, 3, 3 and 1.
    (batch,) = rounds.batches(5)
    assert batch["round"].tolist() == [5] * 20
    assert not list(rounds.batches(5, 1))
    assert len(rounds.rows(5, 0)) == len({*rounds.rows(5, 0).tolist()}) == 20
    assert rounds.examples == COUNT
    assert [phase.steps for phase in plan.phases(7, {"train": 1})] == [1] * 7


def test_bytes_survive_an_interruption() -> None:
    (traffic,) = flower().modifiers
    traffic.load_state_dict({"bytes": [3, 4]})
    assert traffic.scalars() == {"bytes_down": 3.0, "bytes_up": 4.0}
    assert traffic.state_dict() == {"bytes": [3, 4]}
