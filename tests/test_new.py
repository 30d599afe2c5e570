"""``dltrain new``: what it writes runs as it stands, and nothing is overwritten."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from dltrain.cli import dispatch
from dltrain.commands.new import GROUPS
from dltrain.config.annotations import types_of
from dltrain.errors import UserError
from dltrain.runs.finding import latest

FILLED_IN = {"input_shape", "outputs", "model", "spec", "augment", "stratify", "folds", "fold"}
"""Arguments that come from the data, or from the files that a data set builds on."""
QUICK = ["trainer.steps=2", "device=cpu"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said_command(capsys: pytest.CaptureFixture[str], kind: str, name: str) -> list[str]:
    """What one is told to type, without ``dltrain``."""
    assert dispatch(["new", kind, name]) == 0
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("  dltrain ")]
    assert len(lines) == 1
    return shlex.split(lines[0])[1:]


def test_each_kind_runs_as_it_stands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = {kind: said_command(capsys, kind, f"new_{kind}") for kind in GROUPS}
    together = [*typed["model"], typed["data"][2], "callbacks=new_callback", *QUICK]
    assert dispatch(together) == 0
    run = latest(place / "outputs")
    assert run.parent.name == "new_model-new_data"
    seen = json.loads((run / "new_callback.json").read_text())
    assert [one["split"] for one in seen] == ["train", "validation", "test"]
    assert dispatch([*typed["task"], *QUICK, "callbacks=none"]) == 0
    summary = json.loads((latest(place / "outputs") / "summary.json").read_text())
    assert (summary["status"], summary["monitor"]) == ("finished", "loss")
    assert dispatch([word for word in typed["task"] if "data=" not in word]) == 2
    assert (
        "task: this task learns numbers; this data's target is a class" in capsys.readouterr().err
    )
    assert typed["data"][2:] == ["data=new_data", "model=mlp"]
    assert typed["callback"][2:] == ["callbacks=[default,new_callback]"]


def test_the_yaml_file_has_a_key_and_a_comment_for_each_argument(place: Path) -> None:
    for kind, group in GROUPS.items():
        dispatch(["new", kind, f"other_{kind}"])
        text = (place / "configs" / group / f"other_{kind}.yaml").read_text()
        target = f"other_{kind}.Other{kind.capitalize()}"
        assert f"_target_: {target}\n" in text
        keys = set(re.findall(r"^ *(\w+): .*  # \w", text, re.MULTILINE))
        assert set(types_of(target)) <= keys | FILLED_IN


def test_nothing_is_overwritten(place: Path) -> None:
    (place / "configs" / "model").mkdir(parents=True)
    file = place / "configs" / "model" / "kept.yaml"
    file.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        dispatch(["new", "model", "kept"])
    assert file.read_text() == "mine"
    assert not (place / "kept.py").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["modle", "mine"], "Did you mean 'model'?"),
        (["model"], "give a KIND"),
        (["model", "my-net"], "is no word of Python's"),
        (["model", "class"], "is no word of Python's"),
        (["model", "../mine"], "is no word of Python's"),
        (["model", "json"], "Python has a module of this name"),
        (["model", "torch"], "Python has a module of this name"),
        (["model", "mlp"], "is built in"),
        (["callbacks", "figures"], "is built in"),
        (["model", "nobodys_module", "--config-dir", "file"], "cannot be written"),
    ],
)
def test_a_mistake_is_told_in_a_line(place: Path, arguments: list[str], said: str) -> None:
    (place / "file").touch()
    with pytest.raises(UserError) as error:
        dispatch(["new", *arguments])
    assert said in str(error.value)
