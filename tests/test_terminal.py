"""What is printed never ends a command: no letter, no reader who has left, no missing home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dltrain.config.build import build
from dltrain.data.images.mnist import Mnist
from dltrain.errors import ConfigError


def output_of(program: str, **given: object) -> subprocess.CompletedProcess[bytes]:
    """What a program prints once its streams are ours."""
    start = "from dltrain.engine import terminal\nterminal.make_writable()\n"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    return subprocess.run(
        [sys.executable, "-c", start + program], env=environment, timeout=60, **given
    )  # type: ignore[call-overload,no-any-return]


def test_letters_that_a_terminal_lacks_are_written_another_way() -> None:
    done = output_of("print('2 × 3 ± 1 … 猫')", stdout=subprocess.PIPE)
    assert done.stdout == b"2 x 3 +- 1 ... \\u732b\n"
    assert done.returncode == 0


def test_a_reader_who_has_left_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    program = "for _ in range(9): print('line', flush=True)\nprint('rest')\nraise SystemExit(3)"
    done = output_of(program, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 3
    assert done.stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_told_once() -> None:
    with Path("/dev/full").open("wb") as full:
        done = output_of("print('a', flush=True)\nprint('b')", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 0
    assert done.stderr == b"dltrain: standard output: No space left on device\n"


def test_without_a_home_a_path_that_needs_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def expanduser(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")  # as pathlib says it

    monkeypatch.setattr(Path, "expanduser", expanduser)
    node = {"_target_": f"{Mnist.__module__}.{Mnist.__name__}", "root": "~/data"}
    with pytest.raises(ConfigError, match=r"^data: a path begins with ~, and there is no home"):
        build(node, Mnist, "data")
