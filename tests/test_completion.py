"""What the shell completes, and that nothing but candidates is ever printed into a line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from dltrain.cli import dispatch
from dltrain.commands import candidates as completing
from dltrain.commands.candidates import SHELLS
from dltrain.commands.table import COMMANDS
from dltrain.errors import UserError
from tests.test_runs import make


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are typed: with two runs and a folder of configs."""
    monkeypatch.chdir(tmp_path)
    for time in ("00-00-01", "00-00-02"):
        make(tmp_path / "outputs", time)
    (tmp_path / "own" / "model").mkdir(parents=True)
    (tmp_path / "own" / "model" / "mine.yaml").write_text("# Mine.\n_target_: mine.Net\n")
    return tmp_path


def complete(line: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What the shell is told for ``dltrain LINE``."""
    assert dispatch(["completion", "query", f"dltrain {line}"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out.splitlines()


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("resum", ["resume"]),
        ("model=le", ["model=lenet5"]),
        ("-m model=lenet5,ml", ["model=lenet5,mlp"]),
        ("train 'regularizer=[l2,dro", ["regularizer=[l2,dropout"]),
        ("optimizer.l", ["optimizer.lr="]),
        ("model=mlp model.h", ["model.hidden="]),
        ("data.aug", ["data.augment."]),
        ("trainer.deterministic=", ["trainer.deterministic=true", "trainer.deterministic=false"]),
        ("trainer.compile=o", ["trainer.compile=off", "trainer.compile=on"]),
        ("task/loss=qu", ["task/loss=quantile"]),
        ("-m model=lenet5,m devi", ["device="]),
        ("resume l", ["latest"]),
        ("resume mlp-digits/2026-01-01_00-00-01", ["mlp-digits/2026-01-01_00-00-01"]),
        ("resume outputs/m --output-dir x", []),
        ("compare latest 2026-01-01_00-00-02", ["2026-01-01_00-00-02"]),
        ("runs --so", ["--sort"]),
        ("runs --sort acc", ["accuracy"]),
        ("runs --filter optimizer.l", ["optimizer.lr="]),
        ("list mod", ["model", "modifier"]),
        ("list model ml", ["mlp"]),
        ("help model=ml", ["model=mlp"]),
        ("new c", ["callback"]),
        ("completion z", ["zsh"]),
        ("config model=ml", ["model=mlp"]),
        ("--config-dir own model=mi", ["model=mine"]),
        ("--config-dir ", []),
        ("init_from=lat", ["init_from=latest"]),
        ("model=nothing optimizer.l", ["optimizer.lr="]),
        ("optimizer.lr=]) optimizer.l", ["optimizer.lr="]),
        ("--config-dir nowhere model=le", ["model=lenet5"]),
        ("nonsense.key=", []),
    ],
)
def test_what_was_begun_is_completed(
    place: Path, capsys: pytest.CaptureFixture[str], line: str, found: list[str]
) -> None:
    assert complete(line, capsys) == found


def test_nothing_typed_yet(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = complete("", capsys)
    assert set(COMMANDS) | {"model=", "-m", "seed="} <= set(first)
    runs = ["mlp-digits/2026-01-01_00-00-02", "mlp-digits/2026-01-01_00-00-01"]
    assert complete("resume ", capsys) == ["latest", *runs]


def test_no_traceback_lands_in_a_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "own" / "model" / "mine.yaml").write_text("a: [")
    assert complete("--config-dir own model=mine optimizer.l", capsys) == ["optimizer.lr="]

    def broken(line: str) -> list[str]:
        print("half a word")
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr(completing, "candidates", broken)
    assert complete("model=le", capsys) == []


def test_a_shell_without_a_script_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in ((["bsh"], "Did you mean 'bash'?"), ([], "give one of bash, zsh, fish")):
        with pytest.raises(UserError) as error:
            dispatch(["completion", *arguments])
        assert said in str(error.value)
    assert dispatch(["-sc", "install=bash"]) == 0
    installed = capsys.readouterr().out
    assert dispatch(["completion", "bash"]) == 0
    assert capsys.readouterr().out == installed


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_of_its_shell(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    dispatch(["completion", shell])
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    subprocess.run([shell, "-n", str(script)], check=True)


@pytest.mark.parametrize(
    ("line", "printed", "replies"),
    [
        # bash replaces what stands behind the last =, unless a quote is open.
        ("dltrain model=le", "model=lenet5\nmodel=[x*\n", ["lenet5", "[x*"]),
        ("dltrain 'model=le", "model=lenet5\n", ["model=lenet5"]),
        ("dltrain resume ml", "mlp-digits/a b\n", ["mlp-digits/a b"]),
        ("dltrain resume ml", "", []),
    ],
)
def test_bash_takes_over_what_it_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    line: str,
    printed: str,
    replies: list[str],
) -> None:
    if shutil.which("bash") is None:
        pytest.skip("there is no bash here")
    dispatch(["completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "answer").write_text(printed)
    fake = tmp_path / "dltrain"
    fake.write_text(f'#!/bin/sh\n[ "$3" = "$EXPECTED" ] && cat {tmp_path}/answer; echo oops >&2\n')
    fake.chmod(0o755)
    program = (
        f"source {tmp_path}/script; COMP_LINE=$EXPECTED COMP_POINT=${{#EXPECTED}}; "
        f"COMP_WORDS=({fake} x); COMP_WORDBREAKS=' =:'; _dltrain_complete; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program], env={"EXPECTED": line, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert (done.stdout.splitlines(), done.stderr) == (replies or [""], "")
