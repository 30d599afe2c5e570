"""``dltrain list``: groups, choices, and where each comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dltrain.cli import dispatch
from dltrain.commands.help import GROUPS
from dltrain.errors import UserError


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert dispatch(["list", *arguments]) == 0
    page = capsys.readouterr().out
    assert all(len(line) <= 80 for line in page.splitlines()) or "--json" in arguments
    return page


def read(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    return json.loads(shown(capsys, *arguments, "--json"))


def test_groups_are_listed_with_their_choices_and_defaults(
    capsys: pytest.CaptureFixture[str],
) -> None:
    groups = {row["group"]: row for row in read(capsys)}
    assert [name for name in groups if "/" not in name] == list(GROUPS)
    assert "quantile" in groups["task/loss"]["choices"]
    assert groups["data/augment"]["default"] == "images"
    assert "data/base" not in groups, "nobody chooses what files share"
    assert groups["data"]["default"] == "digits"
    assert groups["callbacks"]["default"] == "default"
    assert "mlp" in groups["model"]["choices"]
    page = shown(capsys)
    assert "lenet5*" in page.split()
    assert all(f"\n{name} " in page for name in GROUPS)


def test_a_choice_is_told_as_help_tells_it(capsys: pytest.CaptureFixture[str]) -> None:
    page = shown(capsys, "model", "mlp")
    dispatch(["help", "model=mlp"])
    assert page == capsys.readouterr().out + "\nFrom built-in.\n"
    told = read(capsys, "model=mlp")
    assert (told["target"], told["origin"]) == ("dltrain.models.mlp.MLP", "built-in")
    key = next(key for key in told["keys"] if key["name"] == "model.hidden")
    assert (key["value"], key["type"]) == ("[256, 128]", "a list of integers")
    assert "units of each" in key["comment"]


def test_a_file_of_ones_own_is_told_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mlp.yaml").write_text("# Mine.\nmodel: {}\n")
    rows = [line.split() for line in shown(capsys, "model", "--config-dir", "own").splitlines()]
    assert ["mlp", "own/model/mlp.yaml", "Mine."] in rows
    assert ["lenet5", "built-in"] in [row[:2] for row in rows]
    assert ["lenet5", "built-in"] in [
        line.split()[:2] for line in shown(capsys, "model").splitlines()
    ], "what one command was given, the next has forgotten"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["modle"], "Did you mean 'model'?"),
        (["model", "mpl"], "Did you mean 'mlp'?"),
        (["model", "mlp", "lenet5"], "one GROUP and one NAME"),
        (["--jsn"], "Did you mean '--json'?"),
        (["--config-dir"], "needs a folder"),
    ],
)
def test_a_mistake_is_told_in_a_line(arguments: list[str], said: str) -> None:
    with pytest.raises(UserError) as error:
        dispatch(["list", *arguments])
    assert said in str(error.value)
