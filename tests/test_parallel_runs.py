"""Runs in two processes: what they train is what one trains, and what goes wrong is told once."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain import cli
from dltrain.errors import UserError
from dltrain.runs import checkpoint
from dltrain.runs.load import load
from tests.conftest import REPOSITORY

TINY = ["data=digits", "data.limit=150", "data.evaluation_batch_size=100", "callbacks=none"]
# A batch that does not divide, a last one that is smaller, gradients of two batches, and batch norm
# over all rows.
ODD = [
    *(*TINY, "model=mlp", "model.hidden=[8]", "model.batch_norm=true", "data.batch_size=33"),
    *("trainer.steps=10", "trainer.log_every=1", "trainer.accumulate=2"),
    "trainer.sync_batch_norm=true",
]
FAILING = [*TINY, "model=mlp", "model._target_=tests.processes.FailsOnRank1", "trainer.steps=4"]
HANGING = [
    *(*TINY, "model=mlp", "model._target_=tests.processes.HangsOnRank1", "trainer.steps=4"),
    "trainer.timeout=4",
]
GAN = [*TINY, "model=gan", "data.batch_size=30", "model.clusters=3", "trainer.steps=2"]
# Layers that no world divides evenly; the second has fewer rows than there are processes.
DIVIDED = [
    *(*TINY, "model=mlp", "model.hidden=[33,3]", "trainer.steps=9", "trainer.log_every=1"),
    *("trainer.evaluate_steps=2", "trainer.test_weights=best", "optimizer=adamw"),
]
FSDP = [*DIVIDED, "trainer.parallel=fsdp", "trainer.parallel.smallest=100"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What came of each command: in one process and in two."""
    place = tmp_path_factory.mktemp("runs")
    asked = [
        *(("odd1", 1, ODD, 0), ("odd2", 2, ODD, 0), ("gan2", 2, GAN, 0)),
        *(("failing2", 2, FAILING, 0), ("hanging", 2, HANGING, 0), ("whole", 1, DIVIDED, 0)),
        # One run, which goes on with another number of processes each time.
        *(("fsdp", 4, FSDP, 3), ("fsdp", 2, FSDP, 6), ("fsdp", 1, FSDP, 0)),
        ("parts", 2, FSDP, 0),
    ]
    typed = [
        [world, [*arguments, "device=cpu", f"output_dir={place / name}"], step]
        for name, world, arguments, step in asked
    ]
    told = subprocess.run(
        [sys.executable, "-m", "tests.processes"], input=json.dumps(typed), text=True,
        capture_output=True, check=True, cwd=REPOSITORY, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = json.loads(told.stdout)
    names = [name for name, *_ in asked]
    return {n: {**answer, "place": place / n} for n, answer in zip(names, found, strict=True)}


def metrics(place: Path) -> list[list[str]]:
    """The rows of the only run's ``metrics.csv``."""
    (file,) = place.glob("*/2*/metrics.csv")
    with file.open() as lines:
        return list(csv.reader(lines))[1:]


def test_two_processes_train_as_one(answers: Mapping[str, Any]) -> None:
    one, two = answers["odd1"], answers["odd2"]

    assert (one["codes"], two["codes"]) == ([0], [0, 0]), two["said"]
    pairs = list(zip(metrics(one["place"]), metrics(two["place"]), strict=True))
    assert len(pairs) > 10
    for of_one, of_two in pairs:
        assert of_one[:4] == of_two[:4]
        assert float(of_two[4]) == pytest.approx(float(of_one[4]), rel=1e-4, abs=1e-4)


def test_rank_0_alone_speaks_and_has_the_folder(answers: Mapping[str, Any]) -> None:
    first, second = answers["odd2"]["said"]

    assert first.count("\n") == answers["odd1"]["said"][0].count("\n") > 5
    assert second == ""
    assert len(list(answers["odd2"]["place"].glob("*/*/config.yaml"))) == 1


def test_a_run_of_two_processes_is_used_by_one(answers: Mapping[str, Any]) -> None:
    (folder,) = answers["odd2"]["place"].glob("*/2*")

    assert load(str(folder)) is not None


def test_an_adversarial_game_is_one_over_all_ranks(answers: Mapping[str, Any]) -> None:
    assert answers["gan2"]["codes"] == [0, 0], answers["gan2"]["said"]


def test_what_fails_on_one_rank_is_told_once_and_ends_all(answers: Mapping[str, Any]) -> None:
    first, second = answers["failing2"]["said"]

    assert answers["failing2"]["codes"][1] == 2
    assert answers["failing2"]["codes"][0] != 0
    assert "dltrain: rank 1: model: of this rank." in second
    assert "Traceback" not in first + second
    assert "dltrain:" not in first


def test_a_rank_that_hangs_ends_the_run_in_time(answers: Mapping[str, Any]) -> None:
    first, second = answers["hanging"]["said"]

    assert 0 not in answers["hanging"]["codes"]
    assert "or it has not answered within trainer.timeout: " in first
    assert "Traceback" not in first + second


def test_a_divided_run_goes_on_with_fewer_and_fewer_processes(answers: Mapping[str, Any]) -> None:
    whole, divided = answers["whole"], answers["fsdp"]

    assert (whole["codes"], divided["codes"]) == ([0], [0]), divided["said"]
    for one, other in zip(metrics(whole["place"]), metrics(divided["place"]), strict=True):
        assert one[:4] == other[:4]
        assert float(other[4]) == pytest.approx(float(one[4]), rel=1e-4, abs=1e-4)
    (folder,) = divided["place"].glob("*/2*")
    # One process wrote the last checkpoint; the best is two processes'.
    found = [path.stem for path in folder.glob("checkpoints/*.parts")]
    assert found == [index_of(folder, "best")["name"]]
    assert "divided" not in torch.load(folder / checkpoint.LAST)


@pytest.fixture
def parts(answers: Mapping[str, Any], tmp_path: Path) -> Path:
    """The folder of a finished run whose checkpoints lie in the parts of two processes."""
    assert answers["parts"]["codes"] == [0, 0], answers["parts"]["said"]
    (folder,) = answers["parts"]["place"].glob("*/2*")
    return Path(shutil.copytree(folder, tmp_path / "run"))


def index_of(folder: Path, name: str = "last") -> dict[str, Any]:
    """Where the parts of a checkpoint are, as it has it."""
    found: dict[str, Any] = torch.load(folder / f"checkpoints/{name}.pt")["divided"]
    return found


def test_each_process_writes_its_parts_and_one_reads_them(
    parts: Path, answers: Mapping[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    names = {index_of(parts, name)["name"] for name in ("last", "best")}
    written = {path.relative_to(parts).as_posix() for path in parts.glob("checkpoints/*.parts/*")}

    # Those of earlier checkpoints are gone; there is no file of any other kind.
    assert written == {f"checkpoints/{name}.parts/{rank}.pt" for name in names for rank in (0, 1)}
    weights = checkpoint.load(parts / checkpoint.LAST)["task"]
    (alone,) = answers["whole"]["place"].glob("*/2*")
    expected = checkpoint.load(alone / checkpoint.LAST)["task"]
    for name, value in weights.items():
        assert torch.allclose(value, expected[name], atol=1e-5)
    cli.dispatch(["evaluate", str(parts)])
    loss = json.loads((parts / "summary.json").read_text())["test"]["loss"]
    assert f"{loss:.4f}" in capsys.readouterr().out


class Harmful:
    """Writes a file when a pickle of it is loaded."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self._place,)


def test_parts_of_a_stranger_execute_nothing(parts: Path, tmp_path: Path) -> None:
    done = tmp_path / "done"
    folder = parts / f"checkpoints/{index_of(parts, 'best')['name']}.parts"
    harm = pickle.dumps(Harmful(done))
    (folder / ".metadata").write_bytes(harm)  # what PyTorch's own reader loads

    load(str(parts))
    torch.save(
        {"parts": folder.stem, "tensors": [torch.zeros(9999), Harmful(done)]}, folder / "0.pt"
    )
    with pytest.raises(UserError, match="cannot be read as a checkpoint: it is damaged, or holds"):
        load(str(parts))
    (folder / "0.pt").write_bytes(harm + bytes(9999))
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        load(str(parts))

    assert not done.exists()


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Have the index of the last checkpoint say something else."""
    path = folder / checkpoint.LAST
    state = torch.load(path)
    change(state["divided"])
    torch.save(state, path)


def of_weight(index: dict[str, Any]) -> dict[str, Any]:
    """What it says of a weight."""
    found: dict[str, Any] = index["tensors"][0]
    return found


def grown(entry: dict[str, Any]) -> None:
    """Have a vector claim to be longer than its file."""
    entry["shape"], entry["parts"] = [10**12], [[0, 0, [0], [10**12]]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda index: index.update(name="../../other"), "it names no folder of parts"),
        (lambda index: of_weight(index)["parts"].pop(), "not the whole of a tensor"),
        (lambda index: of_weight(index)["parts"][1][3].__setitem__(0, 17), "not the whole"),
        (lambda index: of_weight(index).update(dtype=torch.float16), "not what the index tells"),
        (lambda index: of_weight(index)["parts"][0].__setitem__(0, "/etc/passwd"), "a number"),
        (lambda index: of_weight(index).update(at=["task"] * 2), "cannot be read as a checkpoint"),
        (lambda index: grown(of_weight(index)), "tells of .* bytes, and"),
    ],
)
def test_an_index_that_is_none_is_refused(
    parts: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    edited(parts, change)

    with pytest.raises(UserError, match=said):
        load(str(parts), weights="last")


def test_parts_that_are_damaged_or_lost_are_named(parts: Path) -> None:
    best, last = index_of(parts, "best")["name"], index_of(parts)["name"]
    path = parts / f"checkpoints/{best}.parts/1.pt"
    content = bytearray(path.read_bytes())
    content[content.index(b"data/0") + 200] ^= 1
    path.write_bytes(content)
    with pytest.raises(checkpoint.Damaged, match="a part of it has another checksum"):
        load(str(parts))
    shutil.copy(parts / f"checkpoints/{last}.parts/1.pt", path)
    with pytest.raises(checkpoint.Damaged, match=r"1\.pt is of another checkpoint"):
        load(str(parts))
    path.unlink()
    with pytest.raises(checkpoint.Damaged, match=r"best\.pt lacks a part: .*1\.pt does not exist"):
        load(str(parts))
