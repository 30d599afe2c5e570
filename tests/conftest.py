"""What the tests share: configs composed as a command line would, runs, and where data lies."""

from __future__ import annotations

import copy
import gc
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dltrain.config import compose as composition
from dltrain.runs.finding import latest

if hasattr(signal, "SIGHUP"):
    # Under nohup it is ignored, by all that is started here too, and tests send it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

if TYPE_CHECKING:
    import torch

# Before torch is imported: threads that wait for each other stall a suite on a busy machine.
# Several processes of pytest share its cores, and so do the commands that they start.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
if _workers > 1:
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // _workers)))

# A hundred processes start here, and each would compile all of dltrain; workers, all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Importing makes a million objects, none of them garbage, and collecting looks through them again
# and again. To freeze them afterwards was slower: what tests leave behind is frozen with them.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage again."""
    gc.enable()


def pytest_runtest_teardown() -> None:
    """A command with --config-dir leaves its folder in force: here also for the next test."""
    composing = sys.modules.get("dltrain.config.compose")
    if composing is not None:
        composing.use_folder(None)


REPOSITORY = Path(__file__).resolve().parents[1]
CONSTRAINTS = REPOSITORY / "scripts" / "constraints.txt"

Compose = Callable[..., dict[str, Any]]
Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class Trained:
    """A run that has ended: what it returned, and where it lies."""

    summary: dict[str, Any]
    folder: Path


Train = Callable[..., Trained]


def expect_speed(holds: bool, otherwise: str) -> None:
    """Fail with the torch that we have looked into; of another, only say what is slow.

    For what makes a run quick by way of torch's insides, which may change with any release: a run
    is right without it.
    """
    import torch

    if holds:
        return
    version = torch.__version__.partition("+")[0]
    locked = re.findall(r"^torch==([^\s;]+)", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert version not in locked, otherwise
    warnings.warn(f"slow with torch {version}: {otherwise}", stacklevel=2)


def two_inputs(facts: Mapping[str, Any]) -> torch.Tensor:
    """Something that a model of such facts can read: words where it has a vocabulary."""
    import torch

    if "vocabulary_size" in facts:
        return torch.randint(1, facts["vocabulary_size"], (2, 7))
    return torch.rand(2, *facts["input_shape"])


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


@pytest.fixture(scope="session")
def composed() -> dict[tuple[str | None, ...], dict[str, Any]]:
    """What was composed before: many tests train the same few configs, and Hydra takes its time."""
    return {}


@pytest.fixture
def compose(composed: dict[tuple[str | None, ...], dict[str, Any]]) -> Compose:
    """``compose("model=mlp", …)``: the plain config that this command line trains."""

    def compose_or_recall(*overrides: str) -> dict[str, Any]:
        key = (os.environ.get("DLTRAIN_DATA"), *overrides)
        if key not in composed:
            composed[key] = composition.compose(overrides)
        return copy.deepcopy(composed[key])

    return compose_or_recall


@pytest.fixture
def train(compose: Compose, tmp_path: Path) -> Train:
    """``train("model=mlp", …)``: a run in this process, in a folder of its own, unwatched."""

    def trained(*overrides: str) -> Trained:
        from dltrain import training as run

        output_dir = tmp_path / "outputs"
        config = compose("callbacks=none", "device=cpu", *overrides)
        summary = run.train({**config, "output_dir": str(output_dir)}, overrides)
        return Trained(summary, latest(output_dir))

    return trained


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """``cli("model=mlp", …)``: dltrain in a process of its own, as a user starts it."""

    def called(
        *arguments: str,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 600,  # against a run that hangs; a busy machine is slow
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


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Cli:
    """As ``cli``, in this process: seconds less, where a process of its own tells nothing more."""

    def called(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        from dltrain.cli import main

        monkeypatch.chdir(cwd or tmp_path)
        monkeypatch.setattr(sys, "argv", ["dltrain", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        said = capsys.readouterr()
        code = end.value.code
        assert isinstance(code, int)
        return subprocess.CompletedProcess(arguments, code, said.out, said.err)

    return called
