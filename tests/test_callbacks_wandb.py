"""What Weights & Biases is told of a run, by a stand-in with the names of its API that are used."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from dltrain.callbacks.wandb import WeightsAndBiases
from dltrain.contracts.metric import Evaluation, Table
from dltrain.contracts.run import Logged
from tests.watching import FakeView, png


class Heard:
    """The module's few names; keeps what they are given."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.told: list[tuple[int, dict[str, Any]]] = []
        self.exit_code: int | None = None

    def init(self, **how: Any) -> SimpleNamespace:
        self.started = how
        return SimpleNamespace(id=how["id"] or "abc", log=self.log, finish=self.finish)

    def log(self, values: dict[str, Any], step: int) -> None:
        self.told.append((step, values))

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    found, module = Heard(), ModuleType("wandb")
    names = {
        "init": found.init,
        "Settings": dict,
        "Image": lambda image: ("image", image.size),
        "Table": lambda columns, data: ("table", columns, data),
        "Html": lambda text: ("html", text),
        "Histogram": lambda values: ("histogram", values.tolist()),
    }
    vars(module).update(names)
    monkeypatch.setitem(sys.modules, "wandb", module)
    return found


@pytest.fixture
def view(tmp_path: Path) -> FakeView:
    folder = tmp_path / "mlp-digits" / "2026-01-01"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 3\n")
    return FakeView(folder)


def test_a_run_there_has_all_that_a_run_shows(heard: Heard, view: FakeView) -> None:
    tracker, table = WeightsAndBiases(mode="offline"), Table(("name", "n"), [("a", 1), ("sum", "")])
    tracker.start(view)
    view.progress.step = 4
    tracker.log(view, {"loss": 0.5})
    weights = torch.ones(2, 1, dtype=torch.bfloat16, requires_grad=True)
    tracker.logged(
        view, Logged({}, {"weights": weights}, {"filters": png((3, 2))}, {"note": "<b>"})
    )
    tracker.evaluated(view, "test", Evaluation({"loss": 1}, tables={"classes": table}))
    tracker.end(view, "finished")
    how = {name: heard.started[name] for name in ("project", "name", "dir", "config", "mode")}
    assert how == {
        "project": "dltrain",
        "name": "mlp-digits/2026-01-01",
        "dir": view.path,
        "config": {"seed": 3},
        "mode": "offline",
    }
    kept = heard.started["settings"]
    assert (kept["console"], kept["disable_git"], kept["save_code"]) == ("off", True, False)
    assert heard.told == [
        (4, {"steps/loss": 0.5, "steps/samples_per_second": 0.0}),
        (4, {"weights": ("histogram", [1.0, 1.0])}),
        (4, {"filters": ("image", (3, 2))}),
        (4, {"note": ("html", "<pre>&lt;b&gt;</pre>")}),
        (4, {"test/loss": 1.0}),
        (4, {"test/tables/classes": ("table", ["name", "n"], [["a", "1"], ["sum", ""]])}),
    ]
    assert heard.exit_code == 0
    assert view.written == {"wandb.json": '{"id": "abc"}\n'}


def test_a_new_run_has_an_id_of_its_own_and_a_resumed_one_its_old_one(
    heard: Heard, view: FakeView
) -> None:
    tracker = WeightsAndBiases()
    tracker.start(view)
    assert (heard.started["id"], heard.started["resume"]) == (None, None)
    tracker.end(view, "interrupted")
    assert heard.exit_code == 1, "to whatever watches it, it is not done"
    (view.path / "wandb.json").write_text('{"id": "xyz"}')
    WeightsAndBiases().start(view)
    assert (heard.started["id"], heard.started["resume"]) == ("xyz", "allow")
