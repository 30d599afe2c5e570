"""A run folder from a stranger: whoever reads it makes none of its classes but parts of a run."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import yaml

import hostile_cases
from dltrain import cli
from dltrain.config.working_folder import importable
from dltrain.errors import UserError
from dltrain.inference.evaluate import data_of
from dltrain.prolong import prolong
from dltrain.runs.evaluation_classifier import EvaluationClassifier
from dltrain.runs.folder import RunFolder
from dltrain.runs.init_from import init_from
from dltrain.runs.load import load, spec_of_run
from tests.conftest import Train

EVIL = "raise SystemExit('a stranger’s code was run')\n"
NODE = {"_target_": "evil.Part", "batch_size": 1}
SCHEDULE = ["trainer.epochs=2", "schedule=constant"]


@pytest.fixture(scope="module")
def kept() -> dict[str, Path]:
    return {}


@pytest.fixture
def stranger(
    train: Train, kept: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a finished run, which each test has a copy of."""
    if not kept:
        done = train("model=logreg", "data=digits", "trainer.epochs=1", "callbacks=[]")
        kept["run"] = tmp_path_factory.mktemp("kept") / "run"
        shutil.copytree(done.folder, kept["run"])
    shutil.copytree(kept["run"], tmp_path / "outputs" / "theirs" / "run")
    return tmp_path / "outputs" / "theirs" / "run"


def edit(folder: Path, key: str, value: object) -> None:
    file = folder / "config.yaml"
    config = yaml.safe_load(file.read_text())
    *path, last = key.split(".")
    place = config
    for name in path:
        place = place[name]
    place[last] = value
    file.write_text(yaml.safe_dump(config))
    (folder / "checksums.sha256").unlink(missing_ok=True)


Door = Callable[[Path], object]
DOORS: Mapping[str, tuple[Door, tuple[str, ...]]] = {
    "load": (load, ("model", "task", "modifiers.x")),
    "resume for longer": (
        lambda run: prolong(str(run), run.parent, ["trainer.epochs=2"]),
        ("model", "data", "task", "optimizer", "schedule", "callbacks.x", "regularizer.x"),
    ),
    "resume with another schedule": (
        lambda run: prolong(str(run), run.parent, SCHEDULE),
        ("schedule", "model"),
    ),
    "evaluate": (lambda run: cli.dispatch(["evaluate", str(run)]), ("data", "data.augment")),
    "evaluate on changed data": (
        lambda run: data_of(RunFolder(run), ["data.batch_size=5"]),
        ("data", "data.augment", "data.mean"),
    ),
    "sample": (lambda run: cli.dispatch(["sample", str(run)]), ("model",)),
    "export": (lambda run: cli.dispatch(["export", str(run)]), ("model", "task")),
    "predict": (lambda run: cli.dispatch(["predict", str(run), "x.png"]), ("model",)),
    "evaluation classifier": (lambda run: EvaluationClassifier(str(run)), ("model",)),
    "init_from": (
        lambda run: init_from(load(run), spec_of_run(RunFolder(run)), str(run), run),
        ("model",),
    ),
}
CASES = [(name, key) for name, (_, keys) in DOORS.items() for key in keys]


@pytest.mark.parametrize(("door", "key"), CASES)
def test_no_door_lets_a_strangers_class_in(
    stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, door: str, key: str
) -> None:
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    edit(stranger, key, NODE)

    with importable(tmp_path), pytest.raises(UserError, match=r"evil\.Part|no class"):
        DOORS[door][0](stranger)
    assert "evil" not in sys.modules


def test_a_reader_is_as_any_other_part(
    stranger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    (stranger / "reader.json").write_text('{"_target_": "evil.Part"}')
    (stranger / "checksums.sha256").unlink(missing_ok=True)

    with importable(tmp_path), pytest.raises(UserError, match=r"evil\.Part"):
        cli.dispatch(["predict", str(stranger), "x.png"])
    assert "evil" not in sys.modules


def test_the_long_proof_has_more_than_a_hundred_cases_of_every_kind() -> None:
    names = [case.name for case in hostile_cases.CASES]

    assert len(names) == len(set(names)) > 100
    kinds = {name.partition(":")[0] for name in names}
    assert kinds == {"config", "yaml", "json", "checkpoint", "link", "data", "name", "tokenizer"}
