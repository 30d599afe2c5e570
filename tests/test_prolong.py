"""A finished run that is trained for longer: a new run, which begins where the other ended."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dltrain import cli
from dltrain import training as run
from dltrain.errors import ConfigError, UserError
from dltrain.prolong import changed, prolong
from dltrain.runs.finding import latest
from dltrain.runs.folder import RunFolder
from tests.conftest import Compose

SHORT = ("data=iris", "model=mlp", "callbacks=none", "device=cpu", "trainer.evaluate_every=1")
CONSTANT = (
    *SHORT,
    "schedule=constant",
    "modifier=ema",
    "trainer.clip_norm=1",
    "trainer.log_every=3",
)


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    found = torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["task"]
    assert isinstance(found, dict)
    return found


@pytest.fixture
def parent(compose: Compose, tmp_path: Path) -> Path:
    """Two epochs, at a constant learning rate."""
    run.train(compose(*CONSTANT, "trainer.epochs=2", f"output_dir={tmp_path}"), [*CONSTANT])
    return latest(tmp_path)


def test_it_ends_as_a_run_of_that_length_where_the_schedule_is_the_same(
    compose: Compose, tmp_path: Path, parent: Path
) -> None:
    run.train(compose(*CONSTANT, "trainer.epochs=4", f"output_dir={tmp_path / 'whole'}"))
    whole = latest(tmp_path / "whole")
    before = {p: p.read_bytes() for p in parent.rglob("*") if p.is_file() and p.name != ".lock"}

    summary = prolong("latest", tmp_path, ["trainer.epochs=4"])

    child = latest(tmp_path)
    assert child.parent == parent.parent
    assert child != parent
    for name in ("last", "best"):
        ours, theirs = weights(child, name), weights(whole, name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert (child / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()
    assert summary["parent"] == {"run": str(parent.resolve()), "step": 14}
    assert summary["epochs"] == 4
    assert (child / "overrides.txt").read_text().splitlines() == [*CONSTANT, "trainer.epochs=4"]
    assert all(path.read_bytes() == content for path, content in before.items())


def test_what_the_schedule_does_is_told(
    compose: Compose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    falling = (*SHORT, "schedule=linear", "optimizer.lr=0.1", "trainer.epochs=2")
    run.train(compose(*falling, f"output_dir={tmp_path}"))
    prolong("latest", tmp_path, ["trainer.epochs=4"])
    said = capsys.readouterr().err  # before it has a console of its own
    assert "all 28 steps, which were 14: the learning rate was 0.00714 before" in said
    assert "and 0.05 from here" in said


def test_a_run_that_stopped_early_goes_on(compose: Compose, tmp_path: Path) -> None:
    impatient = (
        *("data=iris", "model=mlp", "device=cpu", "callbacks=early_stopping"),
        *("trainer.evaluate_every=1", "callbacks.early_stopping.min_delta=9"),
        *("callbacks.early_stopping.patience=1", "trainer.epochs=5"),
    )
    assert run.train(compose(*impatient, f"output_dir={tmp_path}"))["epochs"] == 2

    typed = ["trainer.epochs=5", "callbacks.early_stopping.patience=100"]
    assert prolong("latest", tmp_path, typed)["epochs"] == 5


def test_it_is_resumed_as_any_run_and_keeps_its_parent(
    tmp_path: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(self: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dltrain.core.loop.Trainer._end_period", cut)
        assert prolong("latest", tmp_path, ["trainer.epochs=4"])["status"] == "interrupted"
    summary = run.resume("latest", tmp_path)
    assert (summary["status"], summary["epochs"]) == ("finished", 4)
    assert summary["parent"]["run"] == str(parent.resolve())


def test_only_length_schedule_and_callbacks_can_be_given(compose: Compose, parent: Path) -> None:
    config = compose(*CONSTANT)
    with pytest.raises(ConfigError) as refused:
        changed(config, ["data.batch_size=3", "trainer.epoch=9", "schedule.endd=1"])
    assert [str(fault).partition(".")[0] for fault in refused.value.faults[:3]] == [
        "data", "trainer", "schedule",
    ]  # fmt: skip
    assert "Did you mean 'trainer.epochs'?" in str(refused.value)
    node = changed(config, ["schedule=linear", "schedule.end=0.5", "trainer.epochs=9"])["schedule"]
    assert node == {"_target_": "dltrain.optim.schedules.Linear", **node, "end": 0.5}
    with pytest.raises(ConfigError, match="how long it is to be"):
        changed(config, ["schedule=linear"])
    with pytest.raises(ConfigError, match=r"give trainer\.steps"):
        changed(compose(*CONSTANT, "trainer.steps=5"), ["trainer.epochs=9"])
    with pytest.raises(ConfigError, match="not added or taken out"):
        changed(config, ["+trainer.epochs=9"])
    with pytest.raises(UserError, match="has trained 14 steps"):
        cli.dispatch(["resume", str(parent), "trainer.epochs=2"])


def test_only_a_finished_run_is_prolonged(tmp_path: Path, parent: Path) -> None:
    folder = RunFolder(parent)
    summary = folder.summary()
    folder.write_json("summary.json", {**summary, "status": "interrupted"}, sealed=True)
    with pytest.raises(UserError, match="is interrupted, not finished: resume it first"):
        prolong("latest", tmp_path, ["trainer.epochs=4"])
    folder.write_json("summary.json", summary, sealed=True)
    with pytest.raises(UserError, match="To train it for longer: dltrain resume "):
        run.resume("latest", tmp_path)
