"""What trackers are told of a run, and the numbers as JSON lines; no tracker is asked here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.callbacks.jsonl import JsonLines
from dltrain.callbacks.mlflow import MLflow
from dltrain.callbacks.tracking import Tracker
from dltrain.contracts.data import DataSpec
from dltrain.contracts.metric import Evaluation, Table
from dltrain.contracts.run import Logged, Setup
from dltrain.errors import UserError
from tests.watching import FakeView


class Heard(Tracker):
    """Keeps what it is told."""

    library = "json"

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[Any, ...]] = []

    def open(self, view: Any, known: str | None, config: Mapping[str, Any]) -> str:
        self.told.append(("open", known, dict(config)))
        return known or "abc123"

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.told.append(("scalars", step, dict(values)))

    def image(self, name: str, step: int, png: bytes) -> None:
        self.told.append(("image", name, step, png))

    def table(self, name: str, step: int, table: Table) -> None:
        self.told.append(("table", name, step, table))

    def text(self, name: str, step: int, markdown: str) -> None:
        self.told.append(("text", name, step, markdown))

    def histogram(self, name: str, step: int, values: Tensor) -> None:
        self.told.append(("histogram", name, step, values.tolist()))

    def close(self, status: str) -> None:
        self.told.append(("close", status))


@pytest.fixture
def view(tmp_path: Path) -> FakeView:
    (tmp_path / "config.yaml").write_text("seed: 3\n")
    return FakeView(tmp_path)


def test_a_tracker_is_told_all_that_a_run_shows(view: FakeView) -> None:
    tracker, table = Heard(), Table(("name", "n"), [("a", 1)])
    tracker.start(view)
    view.progress.step = 4
    tracker.log(view, {"loss": 0.5})
    shown = Logged({"rank": 2.0}, {"weights": torch.ones(2)}, {"filters": b"png"}, {"note": "*x*"})
    tracker.logged(view, shown)
    tracker.evaluated(view, "validation", Evaluation({"loss": 0.9}))
    tracker.evaluated(view, "validation", Evaluation({"loss": 1}, tables={"classes": table}))
    tracker.end(view, "finished")
    assert tracker.told == [
        ("open", None, {"seed": 3}),
        ("scalars", 4, {"steps/loss": 0.5, "steps/samples_per_second": 0.0}),
        ("scalars", 4, {"rank": 2.0}),
        ("histogram", "weights", 4, [1.0, 1.0]),
        ("image", "filters", 4, b"png"),
        ("text", "note", 4, "*x*"),
        ("scalars", 4, {"validation/loss": 0.9}),
        ("scalars", 4, {"validation/loss": 1.0}),
        ("table", "validation/tables/classes", 4, table),
        ("close", "finished"),
    ]
    assert view.written == {"json.json": '{"id": "abc123"}\n'}


def test_a_resumed_run_goes_on_in_its_own_run_there(view: FakeView) -> None:
    (view.path / "json.json").write_text('{"id": "abc123"}')
    tracker = Heard()
    tracker.start(view)
    assert tracker.told[0][1] == "abc123"
    for strange in ('"../x"', "3", '""'):
        (view.path / "json.json").write_text(f'{{"id": {strange}}}')
        with pytest.raises(UserError, match="is not the id of a run"):
            Heard().start(view)


def test_a_run_that_did_not_begin_closes_nothing(view: FakeView) -> None:
    tracker = Heard()
    tracker.end(view, "failed")
    assert tracker.told == []


def test_a_library_that_is_missing_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    setup = Setup(DataSpec({}), frozenset(), [], [])
    with pytest.raises(UserError, match=r"pip install 'dltrain\[mlflow\]'"):
        MLflow().check(setup)


def test_json_lines_are_cut_back_to_the_checkpoint(view: FakeView) -> None:
    lines = JsonLines()
    lines.start(view)
    lines.log(view, {"loss": 0.5})
    saved = lines.state_dict()
    lines.evaluated(view, "validation", Evaluation({"loss": float("nan")}))
    lines.end(view, "interrupted")
    resumed, view.resumed = JsonLines(), True
    resumed.start(view)
    resumed.load_state_dict(saved)
    view.progress.step = 9
    resumed.evaluated(view, "test", Evaluation({"loss": float("inf")}))
    resumed.logged(view, Logged({"rank": 1.0}))
    resumed.end(view, "finished")
    text = (view.path / "metrics.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == [
        {"step": 0, "epoch": 0, "split": "steps", "loss": 0.5},
        {"step": 9, "epoch": 0, "split": "test", "loss": None},
        {"step": 9, "epoch": 0, "split": "callbacks", "rank": 1.0},
    ]
