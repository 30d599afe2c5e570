"""A file is on the disk before its name is there, and the name before anyone goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dltrain.runs.durable import write_whole


def test_bytes_are_flushed_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    flush, rename = os.fsync, Path.replace

    def flushed(handle: int) -> None:
        place = Path(f"/proc/self/fd/{handle}").resolve()
        done.append("names" if place == tmp_path.resolve() else place.read_text())
        flush(handle)

    def renamed(path: Path, target: Any) -> Path:
        done.append(f"called {Path(target).name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    write_whole(tmp_path / "one.txt", lambda file: file.write(b"content"))
    assert done == ["content", "called one.txt", "names"]
