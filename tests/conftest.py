"""What the tests share: configs composed as a command line would, runs, and where data lies."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dltrain import composition

REPOSITORY = Path(__file__).resolve().parents[1]

Compose = Callable[..., dict[str, Any]]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Trained:
    """A run that has ended: what it returned, and where it lies."""

    summary: dict[str, Any]
    folder: Path


Train = Callable[..., Trained]


@pytest.fixture(scope="session")
def mnist_root() -> str:
    """A folder with the MNIST files; without one, the test is skipped."""
    named = os.environ.get("DLTRAIN_DATA")
    if named:
        return named
    beside = REPOSITORY.parent / "shared" / "data"
    if not beside.is_dir():
        pytest.skip(f"no MNIST files: DLTRAIN_DATA is not set, and there is no {beside}")
    return str(beside)


@pytest.fixture
def compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compose:
    """``compose("model=mlp", …)``: the plain config that this command line trains."""

    def composed(*overrides: str) -> dict[str, Any]:
        jobs: list[composition.Job] = []
        with monkeypatch.context() as patch:
            # Hydra reads sys.argv and the working directory, and leaves its mark on all three.
            patch.setattr(sys, "argv", ["dltrain"])
            patch.setenv("HYDRA_FULL_ERROR", "1")
            patch.chdir(tmp_path)
            composition.launch(overrides, jobs.append)
        return jobs[0].config

    return composed


@pytest.fixture
def train(compose: Compose, tmp_path: Path) -> Train:
    """``train("model=mlp", …)``: a run in this process, in a folder of its own, unwatched."""

    def trained(*overrides: str) -> Trained:
        from dltrain import run

        output_dir = tmp_path / "outputs"
        config = compose("callbacks=none", f"output_dir={output_dir}", "device=cpu", *overrides)
        summary = run.train(config, overrides)
        return Trained(summary, (output_dir / "latest").resolve())

    return trained


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """``cli("model=mlp", …)``: dltrain in a process of its own, as a user starts it."""

    def called(
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dltrain", *arguments],
            cwd=cwd or tmp_path,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return called
