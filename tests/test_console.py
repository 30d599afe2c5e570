"""The console: what a run says, line by line."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from dltrain.callbacks.console import Console
from dltrain.contracts.metric import Evaluation, Table
from dltrain.engine import terminal
from dltrain.messages import Messages
from tests.watching import FakeView


@pytest.fixture
def console(tmp_path: Path) -> Console:
    found = Console(Table(("layer",), []), Messages())
    found.start(FakeView(tmp_path))
    return found


def told(console: Console, names: list[str], tmp_path: Path, step: int = 500) -> list[str]:
    view, values = FakeView(tmp_path), dict.fromkeys(names, 0.5)
    view.progress.step, view.progress.epoch, view.results["train"] = step, 100, values
    console.evaluated(view, "validation", Evaluation(values))
    log = (tmp_path / "train.log").read_text()
    return log[log.index("epoch ") :].splitlines()


def test_an_epoch_is_a_line_of_80_columns(
    console: Console, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = told(console, ["loss", "accuracy"], tmp_path)
    assert line == (
        "epoch 100  loss 0.5000  accuracy 0.5000  validation loss 0.5000  accuracy 0.5000"
    )
    assert line in capsys.readouterr().out.splitlines()


def test_many_metrics_are_lines_of_80_columns(console: Console, tmp_path: Path) -> None:
    names = [f"{kind}_{which}" for kind in ("loss", "accuracy", "score") for which in "abc"]
    lines = told(console, names, tmp_path, step=501)
    assert max(map(len, lines)) <= 80
    assert " ".join(lines).split()[:4] == ["epoch", "100", "step", "501"]
    assert " ".join(lines).count("score_c 0.5000") == 2
    assert all(line.startswith("  ") for line in lines[1:])


def test_a_reader_who_has_left_is_noted_in_the_log(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("wb") as full:
        lasting = terminal._Lasting(full.fileno(), "wb", closefd=False)
        lasting.dropped = True
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BufferedWriter(lasting)))
        for _ in range(2):
            console._say("a line")
        monkeypatch.undo()
    log = (tmp_path / "train.log").read_text()
    assert log.count("nobody reads standard output any more") == 1
    assert log.count("a line") == 2


def test_names_that_look_like_markup_are_shown_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers = Table(("[bold]", "[/]"), [("layers.[l2]", ":cat:"), ("[/red]", 1)])
    Console(layers, Messages()).start(FakeView(tmp_path))
    shown = capsys.readouterr().out, (tmp_path / "train.log").read_text()
    for text in shown:
        assert all(name in text for name in ("[bold]", "[/]", "layers.[l2]", ":cat:", "[/red]"))
