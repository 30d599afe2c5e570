"""What a run does and leaves, through its folder."""

from __future__ import annotations

import csv
import json
import shutil
import socket
from pathlib import Path

import pytest
import torch
import yaml

from dltrain import training as run
from dltrain.engine import precision
from dltrain.errors import UserError
from dltrain.runs.finding import find_run, latest
from dltrain.runs.load import load
from tests.conftest import Compose, Train

QUICK = ("data.limit=200", "trainer.epochs=2", "trainer.evaluate_every=1")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)["task"]


def test_the_folder_holds_what_the_format_promises(train: Train) -> None:
    folder = train(*QUICK).folder
    expected = {
        *("config.yaml", "overrides.txt", "environment.json", "data.json", "reader.json"),
        *("examples.pt", "checksums.sha256"),
        *("metrics.csv", "summary.json", "train.log", "checkpoints", "figures", "tables", ".lock"),
    }
    assert {path.name for path in folder.iterdir()} <= expected
    assert {path.name for path in folder.iterdir()} >= expected - {".lock"}
    assert not [path for path in folder.rglob(".*") if path.name != ".lock"], "no temporary files"


def test_the_summary_has_the_fixed_keys(train: Train) -> None:
    trained = train(*QUICK, "seed=7")
    summary = json.loads((trained.folder / "summary.json").read_text())
    assert list(summary) == [
        *("status", "id", "epochs", "steps", "seed", "device", "parameters", "monitor", "better"),
        *("test", "validation", "weights", "best_step", "seconds", "samples_per_second", "sha256"),
    ]
    assert (summary["status"], summary["seed"], summary["device"]) == ("finished", 7, "cpu")
    assert (summary["epochs"], summary["steps"], summary["parameters"]) == (2, 12, 61_706)
    assert (summary["monitor"], summary["better"]["accuracy"]) == ("accuracy", "max")
    assert list(summary["seconds"]) == ["setup", "train", "evaluate", "total"]
    for split in ("test", "validation"):
        for name in ("accuracy", "precision", "recall", "f1"):
            assert 0 <= summary[split][name] <= 1


def test_the_config_repeats_the_run(train: Train, tmp_path: Path) -> None:
    first = train(*QUICK, "model.dropout=0.3", "data.augment.shift=1", "seed=3")
    config = yaml.safe_load((first.folder / "config.yaml").read_text())
    assert (first.folder / "overrides.txt").read_text().splitlines()[:2] == list(QUICK[:2])
    run.train({**config, "output_dir": str(tmp_path / "again")})
    again = latest(tmp_path / "again")
    assert (again / "metrics.csv").read_bytes() == (first.folder / "metrics.csv").read_bytes()
    assert all(torch.equal(w, weights(again)[name]) for name, w in weights(first.folder).items())


def test_another_seed_is_another_run(train: Train) -> None:
    one, other = train(*QUICK, "seed=1").folder, train(*QUICK, "seed=2").folder
    assert rows(one) != rows(other)


def test_metrics_are_means_over_whole_splits_against_step_and_epoch(train: Train) -> None:
    trained = train(*QUICK, "trainer.log_every=5")
    table = rows(trained.folder)
    assert list(table[0]) == ["step", "epoch", "split", "name", "value"]
    places = [(r["step"], r["epoch"], r["split"]) for r in table if r["name"] == "loss"]
    assert places == [
        ("5", "0.8333", "steps"),
        ("6", "1", "train"),
        ("6", "1", "validation"),
        ("10", "1.6667", "steps"),
        ("12", "2", "train"),
        ("12", "2", "validation"),
        ("12", "2", "test"),
    ]
    logged = {r["name"] for r in table if r["split"] == "steps"}
    assert logged == {"loss", "accuracy", "learning_rate", "gradient_norm"}
    (last,) = [r for r in table if r["split"] == "test" and r["name"] == "accuracy"]
    assert float(last["value"]) == trained.summary["test"]["accuracy"]


def test_nothing_in_the_folder_names_the_machine_or_the_user(train: Train) -> None:
    folder = train(*QUICK).folder
    text = (folder / "environment.json").read_text() + (folder / "summary.json").read_text()
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0] or (
        environment["packages"]["torch"] == torch.__version__
    )


def test_the_per_class_table_is_a_file(train: Train) -> None:
    folder = train(*QUICK).folder
    with (folder / "tables" / "test_per_class.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["class"] for row in table] == list("0123456789")
    assert sum(int(row["support"]) for row in table) == 360


def test_the_line_is_learned(train: Train) -> None:
    trained = train("model=linreg", "data=line")
    predicted = load(trained.folder).predict({"input": torch.tensor([[1.0], [2], [3], [4]])})
    assert predicted.columns["prediction"].flatten().tolist() == pytest.approx(
        [2, 4, 6, 8], abs=1e-3
    )
    assert trained.summary["test"]["r2"] == pytest.approx(1)


def test_the_best_weights_are_tested_when_asked(train: Train) -> None:
    # A rate that ruins the network from the third epoch on: last and best differ.
    ruin = ("model=mlp", "schedule=step", "schedule.every_epochs=2", "schedule.gamma=300")
    settings = ("data.limit=400", "trainer.epochs=4", "trainer.evaluate_every=1", *ruin)
    last, best = train(*settings), train(*settings, "trainer.test_weights=best")
    validation = [
        float(r["value"])
        for r in rows(best.folder)
        if (r["split"], r["name"]) == ("validation", "accuracy")
    ]
    assert validation[-1] < max(validation)
    assert best.summary["test"]["accuracy"] > last.summary["test"]["accuracy"]
    assert not all(
        torch.equal(w, weights(best.folder)[n]) for n, w in weights(best.folder, "best").items()
    )


def test_what_a_run_is_tested_with_is_what_is_told_of_it_and_loaded(train: Train) -> None:
    ruin = ("model=mlp", "schedule=step", "schedule.every_epochs=2", "schedule.gamma=300")
    settings = ("data.limit=400", "trainer.epochs=4", "trainer.evaluate_every=1", *ruin)
    auto = train(*settings, "trainer.test_weights=auto")

    best = weights(auto.folder, "best")
    step, found = auto.summary["best_step"], auto.summary["validation"]["accuracy"]
    assert auto.summary["weights"] == "best"
    told = [r for r in rows(auto.folder) if (r["split"], r["name"]) == ("validation", "accuracy")]
    assert [float(r["value"]) for r in told if int(r["step"]) == step] == [found]
    assert found == max(float(r["value"]) for r in told)
    # Its tables are of those weights too, and no curve has a point more.
    with (auto.folder / "tables/validation_per_class.csv").open(newline="") as file:
        table = [(float(row["recall"]), int(row["support"])) for row in csv.DictReader(file)]
    right, examples = sum(recall * n for recall, n in table), sum(n for _, n in table)
    assert found == pytest.approx(right / examples)
    assert len(told) == 4
    assert all(torch.equal(w, best[n]) for n, w in load(auto.folder).state_dict().items())
    assert f"weights: those of step {step}" in (auto.folder / "train.log").read_text()

    none = train("data.limit=100", "trainer.epochs=1", "data.validation=0", *ruin,
                 "trainer.test_weights=auto")  # fmt: skip
    assert none.summary["weights"] == "last"
    assert load(none.folder) is not None


def test_early_stopping_ends_the_run_and_still_tests(train: Train) -> None:
    trained = train(
        *("data.limit=200", "trainer.evaluate_every=1", "trainer.epochs=50"),
        *("callbacks=early_stopping", "callbacks.early_stopping.patience=2"),
        "callbacks.early_stopping.min_delta=1",
    )
    assert trained.summary["epochs"] == 3
    assert trained.summary["test"]
    assert "Stopped early" in (trained.folder / "train.log").read_text()


def test_early_stopping_on_an_unknown_metric_names_the_known_ones_before_the_run(
    train: Train, tmp_path: Path
) -> None:
    stopping = ("callbacks=early_stopping", "callbacks.early_stopping.monitor=acc")
    with pytest.raises(UserError, match=r"no metric 'acc'; there are .*accuracy"):
        train(*QUICK, *stopping, "callbacks.early_stopping.mode=max")
    assert not (tmp_path / "outputs").exists()


def test_overfit_learns_its_batches_by_heart(train: Train) -> None:
    trained = train("trainer.overfit=2", "trainer.steps=200", "model=mlp")
    means = [
        float(r["value"])
        for r in rows(trained.folder)
        if (r["split"], r["name"]) == ("train", "accuracy")
    ]
    assert means[-1] == 1.0
    assert trained.summary["test"]["accuracy"] < 1


def test_steps_count_batches_and_end_with_an_evaluation(train: Train) -> None:
    trained = train("data.limit=200", "trainer.steps=8", "trainer.evaluate_every=1")
    assert trained.summary["steps"] == 8
    evaluated = [int(r["step"]) for r in rows(trained.folder) if r["split"] == "validation"]
    assert sorted(set(evaluated)) == [6, 8]


def test_no_validation_split_is_fine(train: Train) -> None:
    trained = train(*QUICK, "data.validation=0")
    assert trained.summary["validation"] == {}
    assert trained.summary["test"]["accuracy"] > 0


def test_bfloat16_trains_about_as_well(train: Train) -> None:
    settings = ("model=mlp", "data.limit=600", "trainer.epochs=6")
    full, half = train(*settings), train(*settings, "trainer.precision=bfloat16")
    assert half.summary["test"]["accuracy"] > full.summary["test"]["accuracy"] - 0.05
    assert half.summary["test"]["loss"] != full.summary["test"]["loss"]
    assert {w.dtype for w in weights(half.folder).values()} == {torch.float32}


@pytest.mark.parametrize("has_instructions", [True, False])
def test_auto_precision_is_bfloat16_where_the_processor_multiplies_it(
    has_instructions: bool, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_has", lambda *names: has_instructions)
    settings = ["model=mlp", "data=digits", "trainer.steps=2", "device=cpu"]
    named = "bfloat16" if has_instructions else "float32"

    auto = train(*settings, "trainer.precision=auto")

    environment = json.loads((auto.folder / "environment.json").read_text())
    assert environment["precision"] == named
    assert auto.summary["test"] == train(*settings, f"trainer.precision={named}").summary["test"]


def test_latest_points_at_the_newest_run(train: Train, tmp_path: Path) -> None:
    first, second = train(*QUICK).folder, train(*QUICK).folder
    assert first != second
    assert latest(tmp_path / "outputs") == second


def test_a_latest_that_names_no_path_is_one_message(tmp_path: Path) -> None:
    pointer = tmp_path / "latest"
    pointer.write_bytes(b"a\0b")
    with pytest.raises(UserError, match="cannot be read as the path of a run"):
        latest(tmp_path)
    pointer.unlink()
    pointer.symlink_to("latest")
    with pytest.raises(UserError):  # which is a link in a circle, or a run that is gone
        latest(tmp_path)


def test_a_failing_run_says_failed(train: Train, compose: Compose, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite"):
        train(*QUICK, "optimizer=sgd", "optimizer.lr=1e12")
    summary = json.loads((latest(tmp_path / "outputs") / "summary.json").read_text())
    assert summary["status"] == "diverged"


def test_a_link_that_an_earlier_version_left_is_read_then_replaced(
    train: Train, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    old = train(*QUICK, "trainer.steps=1").folder
    (outputs / "latest").unlink()
    (outputs / "latest").symlink_to(old.relative_to(outputs), target_is_directory=True)
    assert latest(outputs) == find_run("latest", outputs).path.resolve() == old

    new = train(*QUICK, "trainer.steps=1").folder

    assert not (outputs / "latest").is_symlink()
    assert (outputs / "latest").read_text() == f"{new.relative_to(outputs)}\n"
    assert latest(outputs) == new
    assert (old / "config.yaml").is_file()


def test_a_run_is_found_by_name_by_path_and_by_the_path_of_the_pointer(
    train: Train, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    folder = train(*QUICK, "trainer.steps=1").folder
    for name in ("latest", str(outputs / "latest"), str(folder)):
        assert find_run(name, outputs).path.resolve() == folder


def test_a_run_is_found_by_a_part_of_its_path_that_no_other_has(tmp_path: Path) -> None:
    times = ("2026-01-31_12-00-00", "2026-01-31_12-00-00_2", "2026-02-01_08-30-00")
    for name, time in zip(("lenet5-digits", "lenet5-digits", "lstm-imdb"), times, strict=True):
        (tmp_path / name / time).mkdir(parents=True)
        (tmp_path / name / time / "config.yaml").touch()
    found = {
        part: find_run(part, tmp_path).path.name
        for part in ("lstm", "02-01", "00-00_2", times[0], f"lenet5-digits/{times[0]}")
    }
    assert list(found.values()) == [times[2], times[2], times[1], times[0], times[0]]
    (tmp_path / "stm-imdb" / times[2]).mkdir(parents=True)
    (tmp_path / "stm-imdb" / times[2] / "config.yaml").touch()
    assert find_run("stm-imdb", tmp_path).path.parent.name == "stm-imdb"
    with pytest.raises(UserError, match=r"lenet5 is a part of 2 runs. Which one\?\n.*00-00_2\n"):
        find_run("lenet5", tmp_path)
    inside = str(tmp_path / "lenet5-digits")
    with pytest.raises(UserError, match=r"is a folder of 2 runs\. Which one\?\n.*00-00_2\n"):
        find_run(inside, tmp_path)
    only = find_run(str(tmp_path / "lstm-imdb"), tmp_path)
    assert only.path.resolve() == (tmp_path / "lstm-imdb" / times[2]).resolve()
    with pytest.raises(UserError, match=r"vgg does not exist\. Give the path that the run prin"):
        find_run("vgg", tmp_path)


@pytest.mark.parametrize("as_link", [False, True])
def test_a_newest_run_that_was_deleted_is_one_message(
    as_link: bool, train: Train, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    folder = train(*QUICK, "trainer.steps=1").folder
    if as_link:
        (outputs / "latest").unlink()
        (outputs / "latest").symlink_to(folder.relative_to(outputs), target_is_directory=True)
    shutil.rmtree(folder)
    for name in ("latest", str(outputs / "latest")):
        with pytest.raises(UserError, match=f"is gone: there is no .*{folder.name}. Give the path"):
            find_run(name, outputs)


def test_a_pointer_that_cannot_be_written_is_told_and_the_run_goes_on(
    train: Train, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "outputs" / "latest" / "mine").mkdir(parents=True)
    with (
        caplog.at_level("WARNING", logger="dltrain"),
        pytest.raises(UserError, match="cannot be read"),
    ):
        train(*QUICK, "trainer.steps=1")  # the fixture asks for the newest run
    assert "could not be pointed at the new run" in caplog.text
    (summary,) = (tmp_path / "outputs").glob("*/*/summary.json")
    assert json.loads(summary.read_text())["status"] == "finished"
