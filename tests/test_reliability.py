"""The short form of the proofs of docs/reliability.md, whose long form is run by hand."""

from __future__ import annotations

import random
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import damage_runs
from lose_writes import Disk, Operation
from tests.conftest import REPOSITORY

compiled = pytest.mark.skipif(
    not sys.platform.startswith("linux") or shutil.which("cc") is None,
    reason="a disk that fills up or loses writes takes Linux and a C compiler",
)


@compiled
@pytest.mark.slow
def test_runs_outlive_kills_full_disks_power_cuts_and_damage() -> None:
    proofs = REPOSITORY / "scripts" / "short_proofs.py"
    done = subprocess.run([sys.executable, proofs], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    ends = [line.rpartition(": ")[2] for line in done.stdout.splitlines()]
    assert ends == ["0 failures"] * 4


def test_a_power_cut_leaves_what_was_flushed(tmp_path: Path) -> None:
    """A file's content, its name, and that of its folder are kept by an fsync each."""
    disk = Disk("/run")

    def do(kind: str, number: int = 0, one: str = "", data: bytes = b"", offset: int = -1) -> None:
        first = one.encode() if offset < 0 else struct.pack("<q", offset)
        disk.do(Operation(kind, number, first, data))

    def left(loses: str) -> dict[str, bytes]:
        place = tmp_path / loses
        shutil.rmtree(place, ignore_errors=True)
        disk.write(place, loses, random.Random(0))
        files = sorted(path for path in place.rglob("*") if path.is_file())
        return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}

    do("d", one="/run/a")
    do("c", 7, "/run/a/new")
    do("w", 7, data=b"one", offset=0)
    assert (left("data"), left("sizes")) == ({"a/new": b"\0\0\0"}, {"a/new": b""})
    assert left("names") == {}
    do("s", 7, "/run/a/new")
    do("r", one="/run/a/new", data=b"/run/a/old")
    assert (left("data"), left("names")) == ({"a/old": b"one"}, {})
    do("s", 5, "/run/a")
    assert left("names") == {}  # whose folder has no name yet
    do("s", 4, "/run")
    assert left("names") == {"a/old": b"one"}
    do("w", 7, data=b"!!", offset=2)
    assert left("data") == {"a/old": b"one\0"}
    assert left("sizes") == {"a/old": b"one"}
    do("u", one="/run/a/old")
    assert (left("data"), left("names")) == ({}, {"a/old": b"one"})


def test_damage_that_is_taken_silently_is_told() -> None:
    given = damage_runs.Given
    right = given(0, "fine", {"loss": 1.0})
    touched = ["metrics.csv"]

    def fault(code: int, text: str, answer: dict[str, float]) -> str:
        return damage_runs.fault_of(given(code, text, answer), right, touched)

    assert not fault(0, "fine", {"loss": 1.0})
    assert not fault(2, "dltrain: run/metrics.csv is damaged.", {})
    assert not fault(0, "warning: metrics.csv is damaged", {"loss": 2.0})
    assert "loss differs" in fault(0, "fine", {"loss": 2.0})
    assert "not named" in fault(2, "dltrain: something is damaged.", {})
    assert "exit 1" in fault(1, "Traceback", {})
