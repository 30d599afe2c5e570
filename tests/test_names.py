"""Names that become folders, and names that are shown: neither does more than that."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dltrain import messages, mistakes
from dltrain import training as run
from dltrain.commands.tables import plain
from dltrain.errors import ConfigError, Fault, printable_lines
from dltrain.runs.names import problem_of
from tests.conftest import Compose

REFUSED = {
    "": "empty",
    "  ": "empty",
    ".": "dot",
    "..": "dot",
    ".hidden": "dot",
    "latest": "meaning",
    "sweeps": "meaning",
    "studies": "meaning",
    "/tmp/x": "no path",
    "a\\b": "no path",
    "c:x": "no path",
    "a\x1b[31mred": "printed",
    "a\nb": "printed",
    "a\u202eb": "printed",
    "ab ": "blank",
    "ab.": "dot",
    "NUL": "Windows",
    "com1.x": "Windows",
    "é" * 101: "200 bytes",
}


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_a_name_that_is_no_folder_of_its_own_is_refused(name: str) -> None:
    assert REFUSED[name] in problem_of(name)
    assert "\x1b" not in problem_of(name)
    assert "\n" not in problem_of(name)


@pytest.mark.parametrize("name", ["lenet5-mnist", "run 2", "mein Läufer", "a.b", "-x", "控制"])
def test_a_name_of_ones_own_is_taken(name: str) -> None:
    assert problem_of(name) == ""


@pytest.mark.parametrize("name", ["..", "latest", ""])
def test_a_run_is_not_written_beside_its_output_dir(
    compose: Compose, tmp_path: Path, name: str
) -> None:
    config = compose("model=logreg", "data=digits") | {
        "name": name,
        "output_dir": str(tmp_path / "outputs"),
    }

    with pytest.raises(ConfigError, match=r"^name must not"):
        run.train(config)
    assert list(tmp_path.iterdir()) == []


SEQUENCE = "\x1b]0;title\x07\x9b31m\r\u202ename\x00"


def test_no_sequence_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with messages.shown():
        logging.getLogger("dltrain").warning("a class %s", SEQUENCE)
    mistakes.complain(ConfigError([Fault(SEQUENCE, f"got {SEQUENCE}", SEQUENCE)]))
    print(plain(SEQUENCE))

    said = capsys.readouterr()
    for text in (said.out, said.err, plain(SEQUENCE)):
        assert "name" in text
        assert all(c.isprintable() or c == "\n" for c in text)
    assert printable_lines("a\nc é 字") == "a\nc é 字"
