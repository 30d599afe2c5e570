"""``dltrain config``: what a command line composes to, and what set each value."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
import yaml

from dltrain.cli import dispatch
from dltrain.config.compose import compose
from dltrain.errors import UserError
from tests.conftest import Cli

TYPED = ["experiment=mlp_mnist", "optimizer.lr=0.5", "regularizer=l1", "+model.hidden=[9,8]"]


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert dispatch(["config", *arguments]) == 0
    return capsys.readouterr().out


def test_each_value_is_blamed_on_what_set_it_last(capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(shown(capsys, *TYPED, "+data.augment={shift: 3, crop: 1}", "--json"))
    blame = {row["key"]: (row["value"], row["set_by"]) for row in rows}
    assert blame["optimizer.lr"] == (0.5, "optimizer.lr=0.5")
    assert blame["model.hidden"] == ([9, 8], "+model.hidden=[9,8]")
    assert blame["model._target_"] == ("dltrain.models.mlp.MLP", "model/mlp.yaml")
    assert blame["regularizer.l1.strength"][1] == "regularizer/l1.yaml"
    assert blame["trainer.epochs"][1] == "experiment/mlp_mnist.yaml"
    assert blame["data.batch_size"][1] == "data/mnist.yaml"
    assert blame["data.augment.shift"] == (3, "+data.augment={shift: 3, crop: 1}")
    assert blame["data.augment.flip"][1] == "data/augment/images.yaml"
    assert blame["name"] == ("mlp-mnist", "train.yaml")
    assert all(file for _, file in blame.values())


def test_blame_is_the_config_with_comments_within_the_screen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    long = f"+model.hidden=[{','.join(map(str, range(40)))}]"
    page = shown(capsys, *TYPED[:3], long, "--blame")
    assert yaml.safe_load(page) == compose([*TYPED[:3], long])
    lines = page.splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert [line.split("#")[1].strip() for line in lines if "lr: " in line] == ["optimizer.lr=0.5"]


def test_blame_as_csv_has_values_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = csv.DictReader(io.StringIO(shown(capsys, *TYPED, "--csv")))
    assert {row["key"]: row["value"] for row in rows}["model.hidden"] == "[9, 8]"


def test_a_file_of_ones_own_is_blamed_by_its_path(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("# Mine.\n_target_: mine.Net\n")
    blamed = cli("config", "--config-dir", "own", "model=mine", "--blame")
    assert blamed.stderr == ""
    assert "  _target_: mine.Net" in blamed.stdout
    assert "# own/model/mine.yaml" in blamed.stdout
    assert cli("config", "-cd=own", "model=mine").stdout == (
        cli("--config-dir", "own", "model=mine", "--cfg", "job").stdout
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optimizer.lrr=1"], "Did you mean 'optimizer.lr'"),
        (["model=mlp,lenet5", "--blame"], "is several values"),
        (["mlp"], "not a key=value"),
        (["--blam"], "Did you mean '--blame'?"),
    ],
)
def test_a_mistake_is_told_in_a_line(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        dispatch(["config", *arguments])
    assert said in str(error.value)
