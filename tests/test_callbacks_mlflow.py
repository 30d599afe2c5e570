"""What MLflow is told of a run, by a stand-in with the few names of its API that are used."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import yaml
from PIL import Image

from dltrain.callbacks.mlflow import MLflow
from dltrain.contracts.metric import Evaluation, Table
from dltrain.contracts.run import Logged
from dltrain.errors import UserError
from tests.watching import FakeView, png


class MlflowException(Exception):
    pass


class Param(NamedTuple):
    key: str
    value: str


class Metric(NamedTuple):
    key: str
    value: float
    timestamp: int
    step: int


class Server:
    """The client, and what it has been told; the one of a process is that of all."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.batches: list[int] = []
        self.down = False

    def get_experiment_by_name(self, name: str) -> SimpleNamespace | None:
        if self.down:
            raise MlflowException("API request failed\nand a page of more")
        found = self.experiments.get(name)
        return None if found is None else SimpleNamespace(experiment_id=found)

    def create_experiment(self, name: str) -> str:
        assert name not in self.experiments
        self.experiments[name] = str(len(self.experiments))
        return self.experiments[name]

    def create_run(self, experiment: str, run_name: str) -> SimpleNamespace:
        run = f"run{len(self.runs)}"
        told = {"experiment": experiment, "name": run_name, "status": "RUNNING"}
        self.runs[run] = {**told, "params": {}, "metrics": [], "artifacts": {}}
        return SimpleNamespace(info=SimpleNamespace(run_id=run))

    def update_run(self, run: str, status: str) -> None:
        self.runs[run]["status"] = status

    set_terminated = update_run

    def log_batch(
        self, run: str, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()
    ) -> None:
        self.batches.append(len(params))
        self.runs[run]["params"] |= {p.key: p.value for p in params}
        self.runs[run]["metrics"] += [(m.key, m.step, m.value) for m in metrics]

    def get_run(self, run: str) -> SimpleNamespace:
        metrics = {key: value for key, _, value in self.runs[run]["metrics"]}
        return SimpleNamespace(data=SimpleNamespace(metrics=metrics))

    def get_metric_history(self, run: str, key: str) -> list[Metric]:
        return [Metric(k, v, 0, step) for k, step, v in self.runs[run]["metrics"] if k == key]

    def log_image(self, run: str, image: Image.Image, name: str) -> None:
        self.runs[run]["artifacts"][name] = image.size

    def log_text(self, run: str, text: str, name: str) -> None:
        self.runs[run]["artifacts"][name] = text


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    told = Server()
    parts = {
        "mlflow": {},
        "mlflow.entities": {"Param": Param, "Metric": Metric},
        "mlflow.exceptions": {"MlflowException": MlflowException},
        "mlflow.tracking": {"MlflowClient": lambda: told},
    }
    for name, content in parts.items():
        module = ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return told


@pytest.fixture
def view(tmp_path: Path) -> FakeView:
    folder = tmp_path / "mlp-digits" / "2026-01-01"
    folder.mkdir(parents=True)
    many = {f"key{number}": number for number in range(150)}
    config = {"seed": 3, "model": {"hidden": [8, 8], "note": "x" * 600}, "many": many}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return FakeView(folder)


def resumed(view: FakeView) -> FakeView:
    """The same run folder, with the file that the first part has left."""
    (view.path / "mlflow.json").write_text(view.written["mlflow.json"])  # type: ignore[arg-type]
    return FakeView(view.path)


def test_a_run_there_has_parameters_metrics_and_artifacts(server: Server, view: FakeView) -> None:
    tracker, table = MLflow(), Table(("name", "n"), [("a, b", 1), ("c", None)])
    tracker.start(view)
    view.progress.step = 4
    tracker.log(view, {"loss": 0.5})
    tracker.logged(view, Logged(images={"filters": png((3, 2))}, texts={"note": "*x*"}))
    tracker.evaluated(view, "test", Evaluation({"loss": 1}, tables={"classes": table}))
    tracker.end(view, "finished")
    (run,) = server.runs.values()
    assert (run["name"], run["status"]) == ("mlp-digits/2026-01-01", "FINISHED")
    assert server.experiments == {"dltrain": run["experiment"]}
    assert run["params"]["seed"] == "3"
    assert run["params"]["model.hidden"] == "[8, 8]"
    assert run["params"]["model.note"] == "x" * 500, "longer ones are refused by some stores"
    assert len(run["params"]) == 153 and max(server.batches) == 100, "more at once is refused"
    assert run["metrics"] == [
        ("steps/loss", 4, 0.5),
        ("steps/samples_per_second", 4, 0.0),
        ("test/loss", 4, 1.0),
    ]
    assert run["artifacts"] == {
        "filters.png": (3, 2),
        "note.md": "*x*",
        "test/tables/classes.csv": 'name,n\n"a, b",1\nc,\n',
    }


def test_a_second_run_is_one_more_of_the_same_experiment(server: Server, view: FakeView) -> None:
    for status in ("interrupted", "failed"):
        tracker = MLflow("mine")
        tracker.start(view)
        tracker.end(view, status)
    assert list(server.experiments) == ["mine"]
    assert [run["status"] for run in server.runs.values()] == ["KILLED", "FAILED"]


def test_a_resumed_run_sends_what_is_not_there_yet(server: Server, view: FakeView) -> None:
    tracker = MLflow()
    tracker.start(view)
    for step in (2, 4):
        view.progress.step = step
        tracker.evaluated(view, "train", Evaluation({"loss": 1 / step}))
    tracker.end(view, "interrupted")
    view, tracker = resumed(view), MLflow()
    tracker.start(view)
    assert server.runs["run0"]["status"] == "RUNNING"
    for step in (4, 6):  # the checkpoint was of step 3
        view.progress.step = step
        tracker.evaluated(view, "train", Evaluation({"loss": 1 / step, "new": 0}))
    tracker.end(view, "finished")
    (run,) = server.runs.values()
    assert run["status"] == "FINISHED"
    assert [(name, step) for name, step, _ in run["metrics"]] == [
        *(("train/loss", 2), ("train/loss", 4)),
        *(("train/new", 4), ("train/loss", 6), ("train/new", 6)),
    ]


def test_a_server_that_does_not_answer_is_one_line(server: Server, view: FakeView) -> None:
    server.down = True
    with pytest.raises(UserError, match=r"callbacks\.mlflow: API request failed MLFLOW_TRACK"):
        MLflow().start(view)
