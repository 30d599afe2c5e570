"""A run that was interrupted and resumed ends with the same bytes as one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dltrain import cli
from dltrain import training as run
from dltrain.errors import UserError
from dltrain.runs import checkpoint
from dltrain.runs.finding import latest
from dltrain.runs.load import load, reader_of_run
from tests.conftest import Compose
from tests.interrupting import interrupt_after
from tests.making import edit, flip

# Six batches an epoch, three epochs; everything that is random or carries state is on.
SETTINGS = (
    "callbacks=[early_stopping]",
    "callbacks.early_stopping.patience=50",
    "model.dropout=0.5",
    "data.augment.shift=1",
    "data.augment.rotate=10",
    "data.limit=200",
    "data.batch_size=32",
    "optimizer=adam",
    "schedule=onecycle",
    "regularizer=[l1,max_norm]",
    "trainer.epochs=3",
    "trainer.evaluate_every=1",
    "trainer.log_every=4",
    "trainer.accumulate=2",
    "trainer.clip_norm=1",
    "device=cpu",
)
STEPS = 18
EMA = "dltrain.optim.modifiers.EMA"
PARTS = (
    *("task", "training", "modifiers", "optimize", "streams", "random", "history", "callbacks"),
    "loop",
)


THREADS = 2
"""As a user's run has several: an order of additions that is left to chance would be seen here."""


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def uninterrupted(compose: Compose, tmp_path: Path) -> Path:
    return trained(compose, tmp_path / "uninterrupted")


def trained(compose: Compose, output_dir: Path) -> Path:
    run.train(compose(*SETTINGS, f"output_dir={output_dir}"))
    return latest(output_dir)


def assert_same_end(one: Path, other: Path) -> None:
    tables = [{path.name for path in folder.glob("tables/*.csv")} for folder in (one, other)]
    assert tables[0] == tables[1]
    for name in ("metrics.csv", *(f"tables/{table}" for table in tables[0])):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    states = [torch.load(p / "checkpoints" / "last.pt", weights_only=True) for p in (one, other)]
    assert states[0].keys() == states[1].keys() == {*checkpoint.ABOUT, *PARTS}
    for state in states:
        del state["loop"]["seconds"], state["run"]  # they may have been saved more or less often
    for part in PARTS:
        assert_same(states[0][part], states[1][part], part)
    bests = [torch.load(p / "checkpoints" / "best.pt", weights_only=True) for p in (one, other)]
    for best in bests:
        del best["run"]
    assert_same(bests[0], bests[1], "best")


def assert_same(one: Any, other: Any, where: str) -> None:
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key, value in one.items():
            assert_same(value, other[key], f"{where}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), where
        for index, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    else:
        assert one == other, where


# In the first epoch, at its last step, in the middle of an accumulation, at the run's last step.
@pytest.mark.parametrize(
    ("number", "step"),
    [*((signal.SIGTERM, step) for step in (1, 6, 11, STEPS)), (signal.SIGINT, 6)],
)
def test_a_signal_and_a_resume_leave_no_trace(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    uninterrupted: Path,
    step: int,
    number: signal.Signals,
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, step, number)
        summary = run.train(compose(*SETTINGS, f"output_dir={tmp_path / 'cut'}"))
    assert (summary["status"], summary["signal"]) == ("interrupted", number)
    assert summary["steps"] == step

    resumed = run.resume("latest", tmp_path / "cut")
    assert (resumed["status"], resumed["steps"]) == ("finished", STEPS)
    assert_same_end(uninterrupted, latest(tmp_path / "cut"))


def test_two_interruptions_leave_no_trace(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Path
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 5, signal.SIGTERM)
        run.train(compose(*SETTINGS, f"output_dir={tmp_path / 'cut'}"))
    with monkeypatch.context() as patch:
        interrupt_after(patch, 4, signal.SIGTERM)
        between = run.resume("latest", tmp_path / "cut")
        assert between["steps"] == 9
    seconds = run.resume("latest", tmp_path / "cut")["seconds"]
    assert_same_end(uninterrupted, latest(tmp_path / "cut"))
    # Of all three, each sum to the last digit that is kept.
    assert all(seconds[part] > between["seconds"][part] for part in ("setup", "train", "total"))
    assert seconds["total"] >= sum(seconds[part] for part in ("setup", "train", "evaluate")) - 0.01


@pytest.mark.slow
def test_kill_9_and_a_resume_leave_no_trace(
    compose: Compose, tmp_path: Path, uninterrupted: Path
) -> None:
    output_dir = tmp_path / "killed"
    # A checkpoint after every second or so of steps, so that work after it is lost and redone.
    command = [sys.executable, "-m", "dltrain", *SETTINGS, f"output_dir={output_dir}"]
    process = subprocess.Popen(
        [*command, "trainer.checkpoint_seconds=0"],
        stdout=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": str(THREADS)},
    )
    while not any("validation,loss" in m.read_text() for m in output_dir.glob("*/*/metrics.csv")):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.002)
    process.kill()
    process.wait()
    folder = latest(output_dir)
    assert '"status": "running"' in (folder / "summary.json").read_text()
    # What a kill in the middle of writing leaves: rows that no checkpoint knows of.
    with (folder / "metrics.csv").open("a") as file:
        file.write("999,9,steps,loss,half a ro")

    assert run.resume(str(folder), output_dir)["status"] == "finished"
    assert_same_end(uninterrupted, folder)


def test_a_finished_run_is_not_resumed(compose: Compose, tmp_path: Path) -> None:
    trained(compose, tmp_path)
    before = (latest(tmp_path) / "metrics.csv").read_bytes()
    with pytest.raises(UserError, match="is finished"):
        run.resume("latest", tmp_path)
    assert (latest(tmp_path) / "metrics.csv").read_bytes() == before


def test_a_running_run_is_not_resumed_by_another(compose: Compose, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dltrain", "callbacks=none", f"output_dir={tmp_path}"]
    process = subprocess.Popen([*command, "trainer.epochs=100000"], stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "latest").exists():
            assert process.poll() is None
            time.sleep(0.01)
        with pytest.raises(UserError, match="still running"):
            run.resume("latest", tmp_path)
    finally:
        process.kill()
        process.wait()


def test_early_stopping_survives_a_resume(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = (
        *SETTINGS,
        "callbacks.early_stopping.patience=2",
        "callbacks.early_stopping.min_delta=1",  # more than accuracy can gain
        "trainer.epochs=9",
    )
    whole = run.train(compose(*patient, f"output_dir={tmp_path / 'whole'}"))
    assert whole["epochs"] == 3
    with monkeypatch.context() as patch:
        interrupt_after(patch, 14, signal.SIGTERM)
        run.train(compose(*patient, f"output_dir={tmp_path / 'cut'}"))
    assert run.resume("latest", tmp_path / "cut")["epochs"] == 3
    assert_same_end(latest(tmp_path / "whole"), latest(tmp_path / "cut"))


def rewrite(folder: Path, **changed: Any) -> None:
    path = folder / "checkpoints/last.pt"
    torch.save({**torch.load(path), **changed}, path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "checkpoints/last.pt").write_bytes(b"no"), "cannot be read"),
        (lambda folder: edit(folder, "config.yaml", "a: ["), "cannot be read"),
        (lambda folder: (folder / "config.yaml").unlink(), "not a run folder"),
        (lambda folder: (folder / "checkpoints/last.pt").write_bytes(b""), "cannot be read"),
        (lambda folder: (folder / "checkpoints/last.pt").write_bytes(b"hello"), "cannot be read"),
        (lambda folder: rewrite(folder, task=None), "without weights"),
        (lambda folder: rewrite(folder, format=torch.zeros(2)), "is not a checkpoint"),
        (lambda folder: rewrite(folder, random={}), "does not fit"),
        (lambda folder: rewrite(folder, loop={"step": "two", "places": {}}), "does not fit"),
        (lambda folder: edit(folder, "config.yaml", b"\xff"), "cannot be read"),
        (lambda folder: (folder / "config.yaml").write_text("a: 1"), "damaged, or edited"),
        (lambda folder: (folder / "data.json").write_text("{}"), "damaged, or edited"),
        (lambda folder: flip(folder / "checkpoints/last.pt"), "has another checksum"),
        (lambda folder: (folder / "summary.json").write_text("{"), "cannot be read"),
        (lambda folder: (folder / "summary.json").write_text("[]"), "no JSON object"),
    ],
)
def test_an_unreadable_run_is_one_message(
    compose: Compose,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Any,
    message: str,
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, signal.SIGTERM)
        folder = trained(compose, tmp_path)
    damage(folder)
    with pytest.raises(UserError, match=message):
        run.resume(str(folder), tmp_path)


def test_a_run_that_cannot_go_on_still_tells_how_far_it_was(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, signal.SIGTERM)
        folder = trained(compose, tmp_path)
    rewrite(folder, optimize={})
    with pytest.raises(UserError, match="does not fit"):
        run.resume(str(folder), tmp_path)
    assert json.loads((folder / "summary.json").read_text())["steps"] == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", {"modifiers": None}),
        ("config.yaml", {"modifiers": {"e": {"_target_": EMA, "groups": ["none"]}}}),
        ("config.yaml", {"modifiers": {"e": {"_target_": EMA}}}),
        ("data.json", {"fields": []}),
        ("data.json", {"fields": {"input": {"shape": [-3], "kind": "image", "role": "input"}}}),
        ("data.json", {"fields": {"input": {"shape": ["x"], "kind": "image", "role": "input"}}}),
    ],
)
def test_what_an_edited_run_cannot_be_loaded_by_is_one_message(
    compose: Compose, tmp_path: Path, name: str, content: dict[str, Any]
) -> None:
    folder = trained(compose, tmp_path)
    kept = yaml.safe_load((folder / name).read_text())
    edit(folder, name, json.dumps({**kept, **content}))
    with pytest.raises(UserError):
        load(folder)


def test_a_reader_without_its_file_is_one_message(compose: Compose, tmp_path: Path) -> None:
    folder = trained(compose, tmp_path)
    node = {"_target_": "dltrain.data.text.reader.TextReader"}
    edit(folder, "reader.json", json.dumps(node))
    with pytest.raises(UserError, match=r"reader.json: .*tokenizer.json"):
        reader_of_run(folder)


def test_a_strangers_run_can_name_no_foreign_package(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, signal.SIGTERM)
        folder = trained(compose, tmp_path)
    (tmp_path / "strangers_model.py").write_text("raise SystemExit('ran a stranger’s code')\n")
    monkeypatch.syspath_prepend(tmp_path)
    config = folder / "config.yaml"
    model = "dltrain.models.vision.lenet.LeNet5"
    edit(folder, "config.yaml", config.read_text().replace(model, "strangers_model.Model"))
    with pytest.raises(UserError, match="DLTRAIN_PACKAGES=strangers_model"):
        run.resume(str(folder), tmp_path)
    assert "strangers_model" not in sys.modules


def test_a_strangers_run_starts_no_process(
    compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2, signal.SIGTERM)
        folder = trained(compose, tmp_path)
    monkeypatch.chdir(tmp_path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    handler = "torch.distributed.elastic.multiprocessing.subprocess_handler.subprocess_handler"
    config["model"] = {
        "_target_": "torch.nn.Linear",
        "in_features": 1,
        "out_features": 1,
        "device": {"_target_": f"{handler}.Popen", "args": ["touch", "PWNED"]},
    }
    edit(folder, "config.yaml", yaml.safe_dump(config))

    for use in (
        lambda: run.resume(str(folder), tmp_path),
        lambda: load(folder),
        lambda: cli.dispatch(["sample", str(folder)]),
    ):
        with pytest.raises(UserError, match=r"model\.device\._target_"):
            use()
        time.sleep(0.1)  # a process that was started has written its file by then
        assert not Path("PWNED").exists()


def test_load_gives_the_trained_network(compose: Compose, tmp_path: Path) -> None:
    folder = trained(compose, tmp_path)
    task = load(folder)
    last = torch.load(folder / "checkpoints" / "last.pt", weights_only=True)["task"]
    assert all(torch.equal(value, last[name]) for name, value in task.state_dict().items())
    said = task.predict({"input": torch.zeros(3, 1, 8, 8)})
    assert said.columns["probability"].shape == (3, 10)
    assert not task.training


def test_a_layer_is_told_the_version_that_its_weights_are_of() -> None:
    class Versioned(torch.nn.Linear):
        _version = 3

        def _load_from_state_dict(self, state: Any, prefix: str, told: Any, *rest: Any) -> None:
            assert told["version"] == 3
            super()._load_from_state_dict(state, prefix, told, *rest)

    layer, weights = Versioned(2, 1), {"weight": torch.ones(1, 2), "bias": torch.zeros(1)}
    checkpoint.load_weights(layer, weights, Path("last.pt"))
    assert layer.weight.tolist() == [[1, 1]]
