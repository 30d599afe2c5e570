"""``trainer.compile``: the same training, faster or not, and no run that dies of the choice."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dltrain import training as run
from dltrain.contracts.data import Batch
from dltrain.contracts.task import Metrics
from dltrain.engine import compile as compilation
from dltrain.engine.compile import CannotCompile, Trial
from tests.conftest import Cli, Compose

A_LONG_RUN = 10**9
"""Steps."""
SETTINGS = (
    "model=logreg",
    "data=digits",
    "data.limit=200",
    "data.batch_size=64",  # of one size, in so few steps: each is compiled for itself
    "callbacks=none",
    "trainer.steps=2",
    "device=cpu",
)

needs_a_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="torch.compile needs a C++ compiler, and there is no g++ or clang++",
)


class Step:
    """Takes its time, of a clock that nothing else moves, and says who it is."""

    clock = 0.0

    def __init__(self, seconds: float, name: str) -> None:
        self.seconds, self.name = seconds, name

    def __call__(self, batch: Batch) -> Metrics:
        Step.clock += self.seconds
        return {self.name: torch.zeros(())}


def settled(plain: Step, compiled: Step, steps: int) -> tuple[str, str, list[str]]:
    """What a trial settles on, why, and whose steps it made."""
    heard: list[tuple[str, str]] = []
    trial = Trial(plain, compiled, steps, lambda mode, why: heard.append((mode, why)), int)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compilation, "time", SimpleNamespace(perf_counter=lambda: Step.clock))
        made = [next(iter(trial({}))) for _ in range(70)]
    ((mode, why),) = heard
    return mode, why, made


@pytest.mark.parametrize(
    ("plain", "compiled", "choice"), [(4e-3, 1e-3, "on"), (1e-3, 4e-3, "off")], ids=["on", "off"]
)
def test_auto_takes_the_faster_of_both_in_a_long_run(
    plain: float, compiled: float, choice: str
) -> None:
    mode, why, made = settled(Step(plain, "off"), Step(compiled, "on"), A_LONG_RUN)

    assert mode == choice
    assert "ms a step compiled" in why
    assert made[0] == "off"
    assert made[40] == "on"
    assert made[-1] == choice


def test_auto_does_not_try_in_a_short_run() -> None:
    mode, why, made = settled(Step(0.0, "off"), Step(0.0, "on"), steps=1_000)

    assert (mode, set(made)) == ("off", {"off"})
    assert "would not pay" in why


def test_auto_goes_on_without_where_torch_cannot_compile() -> None:
    class Failing(Step):
        def __call__(self, batch: Batch) -> Metrics:
            raise CannotCompile("no compiler")

    mode, why, made = settled(Step(1e-3, "off"), Failing(0.0, "on"), A_LONG_RUN)

    assert (mode, set(made)) == ("off", {"off"})
    assert "no compiler" in why


def test_auto_says_what_it_settles_on(typed: Cli) -> None:
    finished = typed(*SETTINGS, "trainer.compile=auto", "trainer.steps=40")

    assert finished.returncode == 0, finished.stderr
    assert "trainer.compile=auto: off, compiling would not pay in the" in finished.stdout


@needs_a_compiler
def test_a_compiled_run_learns_the_same(compose: Compose, tmp_path: Path) -> None:
    ended = {
        mode: run.train(compose(*SETTINGS, f"trainer.compile={mode}", f"output_dir={tmp_path}"))
        for mode in ("off", "on")
    }

    assert ended["on"]["test"] == pytest.approx(ended["off"]["test"], rel=1e-3)


def test_without_a_compiler_it_is_one_message(
    typed: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    torch._dynamo.reset()
    with config.patch({"cpp.cxx": (str(tmp_path / "no-such-compiler"),)}):
        # Of another size, for what was compiled before is known to the process.
        finished = typed(*SETTINGS, "trainer.compile=on", "data.batch_size=48")

    assert finished.returncode == 2
    assert "torch cannot compile this step here" in finished.stderr
    assert "trainer.compile=off" in finished.stderr
    assert "Traceback" not in finished.stderr
