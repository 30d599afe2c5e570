"""The tour: real commands, one after the other, from any of them on."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from dltrain import cli
from dltrain.commands import tour
from dltrain.commands.table import COMMANDS
from dltrain.config import compose as composition
from dltrain.errors import UserError
from tests.asking import assembled


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What follows ``dltrain`` in each command that is run, instead of a process; 1 ends them."""
    lines: list[list[str]] = []

    def call(command: list[str]) -> int:
        lines.append(command[3:])
        return int("fail" in " ".join(command))

    for output_dir in ("outputs", "fail"):
        checkpoints = tmp_path / output_dir / tour.DIGITS / "2026-01-31_12-00-00" / "checkpoints"
        checkpoints.mkdir(parents=True)
        (checkpoints / "last.pt").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "call", call)
    return lines


def test_piped_it_runs_every_step_as_it_is_shown(
    ran: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.dispatch(["tour"]) == 0

    shown = capsys.readouterr().out.splitlines()
    commands = [shlex.split(line) for line in shown if line.startswith("  dltrain ")]
    assert commands == [["dltrain", *line] for line in ran]
    assert len(ran) == len(tour.STEPS)
    assert all(len(line) < 80 for line in shown if not line.startswith("  "))


@pytest.mark.parametrize("number", range(1, len(tour.STEPS) + 1))
def test_each_command_is_a_right_one(number: int, ran: list[list[str]]) -> None:
    cli.dispatch(["tour", str(number)])

    words = ran[0]
    if words[0] in COMMANDS:
        _, run, *files = words
        assert (Path(run) / "checkpoints" / "last.pt").is_file()
        assert all(Path(name).is_file() for name in files)
    else:
        composition.check([word for word in words if word != "-m"], "-m" in words)


def test_what_it_writes_is_read_as_a_table(ran: list[list[str]]) -> None:
    cli.dispatch(["tour", "5"])

    spec = assembled(composition.compose(ran[0])).spec
    assert spec.facts()["outputs"] == 3


def test_a_step_that_fails_says_how_to_go_on(
    ran: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.dispatch(["tour", "4", "output_dir=fail"]) == 1
    assert "dltrain tour 4" in capsys.readouterr().out
    assert ran[0][-1] == "output_dir=fail"


def test_a_run_is_used_once_there_is_one(ran: list[list[str]]) -> None:
    with pytest.raises(UserError, match="dltrain tour 1"):
        cli.dispatch(["tour", "4", "output_dir=elsewhere"])
    assert not ran


@pytest.mark.parametrize("step", ["0", "6", "first", "-1"])
def test_there_is_no_other_step(step: str, ran: list[list[str]]) -> None:
    with pytest.raises(UserError, match=f"1 to 5|{step}"):
        cli.dispatch(["tour", step])
    assert not ran
