"""Runs in two processes: what they train is what one trains, and what goes wrong is told once."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

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
GAN = [*TINY, "model=gan", "data.batch_size=30", "model.clusters=3", "trainer.steps=2"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """What came of each command: in one process and in two."""
    place = tmp_path_factory.mktemp("runs")
    asked = [("odd", 1, ODD), ("odd", 2, ODD), ("gan", 2, GAN), ("failing", 2, FAILING)]
    typed = [
        [world, [*arguments, "device=cpu", f"output_dir={place / f'{name}{world}'}"]]
        for name, world, arguments in asked
    ]
    told = subprocess.run(
        [sys.executable, "-m", "tests.processes"], input=json.dumps(typed), text=True,
        capture_output=True, check=True, cwd=REPOSITORY, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    found = json.loads(told.stdout)
    names = [f"{name}{world}" for name, world, _ in asked]
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
