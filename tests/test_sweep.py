"""The table at the end of a multirun."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins

from dltrain import cli
from dltrain.config.compose import BASIC_SWEEPER
from dltrain.errors import Diverged
from dltrain.runs.folder import latest
from dltrain.runs.monitor import monitored
from dltrain.runs.sweep import Sweep
from dltrain.runs.sweep_report import report


def added(sweep: Sweep, *runs: tuple[list[str], dict[str, Any] | None, int]) -> Sweep:
    """``sweep`` with what came of runs: overrides, summary, exit code."""
    for number, (overrides, summary, code) in enumerate(runs, 1):
        sweep.begin(number, overrides)
        sweep.end(number, summary, code)
    return sweep


def finished(**scores: float) -> dict[str, Any]:
    return {"status": "finished", "validation": scores, "test": {"accuracy": 0.123}}


def test_settings_are_named_by_what_differs_and_seeds_are_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = [("mlp", 1, 0.5), ("mlp", 2, 0.7), ("cnn", 1, 0.9), ("cnn", 2, 0.9)]
    runs = [([f"model={m}", f"seed={s}", "x=1"], finished(accuracy=v), 0) for m, s, v in values]
    report(added(Sweep.create(tmp_path, arguments=[]), *runs))
    table = capsys.readouterr().out
    assert "model=mlp     2  0.6000 ± 0.1414" in table
    assert "model=cnn     2  0.9000 ± 0.0000" in table
    assert "x=1" not in table
    assert "0.123" not in table, "the test split is not for choosing"


def test_folds_are_averaged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = enumerate((0.5, 0.6, 0.7))
    runs = [(["data.folds=3", f"data.fold={n}"], finished(accuracy=v), 0) for n, v in values]
    report(added(Sweep.create(tmp_path, arguments=[]), *runs))
    table = capsys.readouterr().out
    assert "Validation split, mean ± standard deviation over folds:" in table
    assert "all         3  0.6000 ± 0.1000" in table


def test_the_test_split_is_shown_where_there_is_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report(added(Sweep.create(tmp_path, arguments=[]), (["seed=1"], finished(), 0)))
    assert "Test split" in capsys.readouterr().out


@pytest.mark.parametrize(
    "end", [None, {"status": "interrupted", "validation": {"a": 1}, "test": {}}]
)
def test_an_unfinished_run_is_no_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], end: dict[str, Any] | None
) -> None:
    whole = ["lr=1", "seed=1"], finished(accuracy=0.5), 0
    report(added(Sweep.create(tmp_path, arguments=[]), whole, (["lr=1", "seed=2"], end, 1)))
    row = capsys.readouterr().out.partition("accuracy")[2].splitlines()[1]
    assert row.split() == ["all", "1,", "1", "unfinished", "0.5000"]


def test_a_run_that_diverged_is_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode(*given: Any, **named: Any) -> Any:
        raise Diverged("the loss is not finite")

    monkeypatch.setattr("dltrain.training.train", explode)
    assert cli.dispatch(["-m", "seed=1", f"output_dir={tmp_path}"]) == 2
    (results,) = tmp_path.glob("sweeps/*/results.csv")
    assert results.read_text().splitlines()[1].split(",")[1] == "diverged"
    assert "0, 1 diverged" in capsys.readouterr().out


def test_two_sweeps_never_share_a_folder(tmp_path: Path) -> None:
    assert len({Sweep.create(tmp_path, arguments=[]).path for _ in range(3)}) == 3


def test_hydras_sweepers_are_told_the_monitored_validation_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a sweeper sees it, of which an optimizer's can do nothing with None."""
    seen: list[tuple[list[str], Any]] = []
    sweeper: Any = Plugins.instance().class_name_to_class[BASIC_SWEEPER]
    sweep_all = sweeper.sweep

    def recording(self: Any, arguments: list[str]) -> Any:
        returns = sweep_all(self, arguments)
        seen.extend((job.overrides, job.return_value) for batch in returns for job in batch)
        return returns

    monkeypatch.setattr(sweeper, "sweep", recording)
    monkeypatch.setattr(sys, "argv", ["dltrain"])
    monkeypatch.chdir(tmp_path)
    short = ["data=iris", "model=logreg", "callbacks=none", "device=cpu", "trainer.steps=1"]
    bad = "optimizer.lr=-1,0.1"  # the first is refused

    assert cli.dispatch(["-m", *short, "trainer.monitor=accuracy", bad]) == 2

    (_, refused), (_, value) = seen
    summary = json.loads((latest(tmp_path / "outputs") / "summary.json").read_text())
    assert refused is None
    assert value == summary["validation"]["accuracy"] != summary["validation"]["loss"]
    assert (summary["monitor"], summary["better"]["accuracy"]) == ("accuracy", "max")


def test_an_interval_needs_something_that_draws_from_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.dispatch(["-m", "optimizer.lr=interval(0.1,0.2)"]) == 2
    assert "dltrain tune 'optimizer.lr=interval(0.1,0.2)'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "validation"),
    [("interrupted", {"loss": 0.5}), ("finished", {}), ("finished", {"loss": float("nan")})],
)
def test_half_a_training_and_no_number_are_no_value(
    status: str, validation: dict[str, float]
) -> None:
    summary = {"status": status, "validation": validation, "monitor": "loss"}
    assert monitored(summary) is None


def note(path: Path, number: int) -> None:
    """What a process of its own notes of one run."""
    sweep = Sweep(path)
    sweep.begin(number, [f"seed={number}"])
    sweep.end(number, finished(accuracy=0.5), number % 2)


def test_several_processes_write_into_one_sweep(tmp_path: Path) -> None:
    import multiprocessing

    sweep = Sweep.create(tmp_path, arguments=[])
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        pool.starmap(note, [(sweep.path, number) for number in range(1, 41)], chunksize=1)
    lines = (sweep.path / "results.csv").read_text().splitlines()
    assert lines[0] == "overrides,status,split,metric,value"
    found = [line for line in lines[1:] if ",validation," in line]
    assert found == [f"seed={n},finished,validation,accuracy,0.5" for n in range(1, 41)]
    assert sorted(sweep.codes()) == [0] * 20 + [1] * 20
