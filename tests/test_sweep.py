"""The table at the end of a multirun."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins

from dltrain import cli
from dltrain.config.compose import BASIC_SWEEPER
from dltrain.errors import Diverged, UserError
from dltrain.runs.finding import latest
from dltrain.runs.monitor import monitored
from dltrain.runs.sweep import JOBS, RESULTS, Sweep
from dltrain.runs.sweep_report import report
from tests.interrupting import interrupt_after


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


SHORT = ["data=iris", "model=logreg", "callbacks=none", "device=cpu", "trainer.steps=6"]


def swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *typed: str) -> Sweep:
    """The sweep of ``typed``, as the command trains it in the folder ``tmp_path``."""
    monkeypatch.setattr(sys, "argv", ["dltrain"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    with contextlib.suppress(KeyboardInterrupt):
        cli.dispatch(["-m", *SHORT, *typed])
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["dltrain"])
    monkeypatch.chdir(tmp_path)
    return Sweep(next(Path("outputs").glob("sweeps/*")))


def test_a_killed_sweep_goes_on_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One run is noted; one has only just ended; one knows its folder; one had none; one waits."""
    sweep = swept(tmp_path, monkeypatch, "seed=1,2,3,4,5")
    undisturbed = (sweep.path / RESULTS).read_bytes()
    runs = [sweep.run_of(number) for number in range(1, 6)]
    assert None not in runs
    lines = (sweep.path / JOBS).read_text().splitlines(keepends=True)
    assert len(lines) == 15
    # The last line was cut, and of the others only these were written.
    kept = [*lines[:5], lines[6], lines[7], lines[9], lines[5][:40]]
    (sweep.path / JOBS).write_text("".join(kept))
    (sweep.path / RESULTS).unlink()
    for run in runs[3:]:
        assert run is not None
        shutil.rmtree(run)
    (third,) = runs[2:3]
    assert third is not None
    summary = json.loads((third / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert "5 runs are left" not in capsys.readouterr().out

    assert cli.dispatch(["runs"]) == 0
    assert f"4 of 5 runs are left. Go on with: dltrain resume {sweep.path}" in (
        capsys.readouterr().out
    )
    assert cli.dispatch(["resume", str(sweep.path)]) == 0

    assert (sweep.path / RESULTS).read_bytes() == undisturbed
    assert [sweep.run_of(n) for n in (1, 2, 3)] == runs[:3], "these were not trained again"
    assert len(list(Path("outputs/logreg-iris").glob("[!.]*"))) == 5
    with pytest.raises(UserError, match=r"is finished: there is nothing to resume\.$"):
        cli.dispatch(["resume", f"sweeps/{sweep.path.name}"])


def test_a_signal_ends_a_sweep_in_order_and_a_run_resumed_alone_joins_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt_after(monkeypatch, 2, signal.SIGHUP)
    sweep = swept(tmp_path, monkeypatch, "seed=1,2")
    assert [job.status for job in sweep.jobs().values()] == ["interrupted", "waiting"]
    assert sweep.codes() == [129]
    assert not sweep.is_held

    assert cli.dispatch(["resume", "latest"]) == 0
    said = capsys.readouterr().err
    assert f"joined {sweep.path}/results.csv. Of its sweep, 1 of 2 runs are left." in said
    assert ",interrupted," not in (sweep.path / RESULTS).read_text()
    sweep.hold()
    with pytest.raises(UserError, match="is still running in another process"):
        cli.dispatch(["resume", str(sweep.path)])
    sweep.release()
    with pytest.raises(UserError, match=r"a sweep keeps its own keys; only hydra/launcher"):
        cli.dispatch(["resume", str(sweep.path), "trainer.epochs=3"])
    # A launcher may be named: Hydra's own runs one after the other.
    assert cli.dispatch(["resume", str(sweep.path), "hydra/launcher=basic"]) == 0
    rows = (sweep.path / RESULTS).read_text().splitlines()
    assert sum(",validation,accuracy," in row for row in rows) == 2


def test_what_looks_like_markup_is_shown_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [([f"regularizer={one}"], finished(accuracy=0.5), 0) for one in ("[l2]", "[/]", "l1")]
    report(added(Sweep.create(tmp_path, arguments=[]), *runs))
    shown = capsys.readouterr().out
    assert "regularizer=[l2]     1" in shown
    assert "regularizer=[/]      1" in shown


def test_what_the_disk_refuses_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^output_dir: cannot create a sweep in .*: Not a dir"):
        Sweep.create(tmp_path / "file", arguments=[])
    sweep = Sweep.create(tmp_path, arguments=[])

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"No space left on device\. Go on with: dltrain resum"):
            sweep.begin(1, ["seed=1"])
    shutil.rmtree(sweep.path)
    with pytest.raises(UserError, match="is gone: somebody removed or moved it"):
        sweep.begin(1, ["seed=1"])
    assert not sweep.path.exists()


def test_a_sweep_from_a_stranger_reaches_nothing_else(tmp_path: Path) -> None:
    sweep = Sweep.create(tmp_path / "outputs", arguments=[], jobs=[["seed=1"]])
    sweep.made(1, tmp_path / "elsewhere" / "run")
    with pytest.raises(UserError, match="does not lie in"):
        sweep.run_of(1)
    (sweep.path / JOBS).unlink()
    (tmp_path / "mine").write_text("mine")
    (sweep.path / JOBS).symlink_to(tmp_path / "mine")
    with pytest.raises(UserError):
        sweep.begin(1, ["seed=1"])
    (sweep.path / JOBS).unlink()
    os.link(tmp_path / "mine", sweep.path / JOBS)
    with pytest.raises(UserError, match="hard link"):
        sweep.begin(1, ["seed=1"])
    assert (tmp_path / "mine").read_text() == "mine"
    for run in ("a\0b", "x" * 5000):
        (sweep.path / JOBS).unlink()
        (sweep.path / JOBS).write_text(json.dumps({"job": 1, "run": run, "status": "running"}))
        with pytest.raises(UserError, match="lies in no folder"):
            sweep.run_of(1)
    sweep.release()
    (sweep.path / ".ending").mkdir()
    with pytest.raises(UserError, match="it is a folder"):
        sweep.hold()


def test_a_strangers_sweep_runs_no_code_of_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "strangers_model.py").write_text("raise SystemExit('ran a stranger’s code')\n")
    theirs = [*SHORT, "model._target_=strangers_model.Model"]
    sweep = Sweep.create(Path("outputs"), arguments=[], jobs=[theirs])
    sweep.release()
    assert cli.dispatch(["resume", str(sweep.path)]) == 2
    assert "DLTRAIN_PACKAGES" in capsys.readouterr().err
    assert "strangers_model" not in sys.modules
