"""``dltrain.train(…)``: what the command does, as a call that leaves its process as it was."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
import time
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import VersionBase

import dltrain
from dltrain.callbacks import console, notebook
from dltrain.callbacks.notebook import NotebookBar
from dltrain.cli import dispatch
from dltrain.config.compose import UserFolder
from dltrain.engine import signals
from dltrain.errors import ConfigError, Interrupted, UserError
from dltrain.inference.predictor import Predictor

QUICK = "model=mlp data=digits trainer.steps=3 callbacks=none device=cpu"
MINE = """
from torch import nn


class Net(nn.Sequential):
    def __init__(self, input_shape: tuple[int, ...], outputs: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, outputs))
"""


def process() -> dict[str, Any]:
    """What a run might change of the process."""
    loggers = [logging.getLogger(name) for name in (None, "dltrain", "hydra")]
    hydra = HydraConfig.instance().cfg, VersionBase.instance().version_base
    return {
        "argv": list(sys.argv),
        "path": list(sys.path),
        "own code": [f for f in sys.meta_path if type(f).__module__.startswith("dltrain")],
        "working folder": Path.cwd(),
        "environment": dict(os.environ),
        "warnings": list(warnings.filters),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "logging": [(list(logger.handlers), logger.level) for logger in loggers],
        "hooks": (sys.excepthook, threading.excepthook, sys.stdout, sys.stderr),
        "hydra": (GlobalHydra.instance().hydra, *hydra, UserFolder.path),
        "python": random.getstate(),
        "numpy": str(np.random.get_state()),
        "torch": torch.get_rng_state().tolist(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "precision": torch.get_float32_matmul_precision(),
        "gradients": (torch.is_grad_enabled(), torch.get_default_dtype()),
        "denormals": sys.float_info.min / 2,
    }


def test_a_run_is_a_predictor_with_its_summary_and_leaves_its_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "configs" / "model").mkdir(parents=True)
    (tmp_path / "configs" / "model" / "own.yaml").write_text(
        "# @package _global_\nmodel: {_target_: mine.Net}\n"
    )
    before = process()
    run = dltrain.train(
        f"{QUICK} trainer.deterministic=true model=own seed=7", config_dir="configs"
    )
    after = process()
    assert {name: after[name] for name in before if after[name] != before[name]} == {}
    assert isinstance(run, Predictor)
    assert type(run.model).__name__ == "Net"  # of a package that no stranger's run may name
    assert run.summary["status"] == "finished"
    assert run.summary["steps"] == 3
    assert set(run.summary["test"]) >= {"loss", "accuracy"}
    assert len(run.predict(np.zeros((2, 8, 8), np.uint8))) == 2
    assert (run.path / "overrides.txt").read_text().splitlines()[-1] == "seed=7"


def test_it_may_be_called_again_and_from_a_thread_with_the_command_s_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert dispatch([*QUICK.split(), "name=typed"]) == 0
    found = [dltrain.load("typed").summary["test"]]
    threads = [
        threading.Thread(target=lambda: found.append(dltrain.train(QUICK.split()).summary["test"]))
        for _ in range(2)
    ]
    before = process()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert process() == before
    assert found == [found[0]] * 3


def test_mistakes_are_exceptions_that_tell_what_the_command_tells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in ("optimizer.lrr=2 model=mlp model.dropout=5", "trainer.epochs=x name=true"):
        assert dispatch(line.split()) == 2
        told = capsys.readouterr().err.replace("dltrain: ", "").strip()
        with pytest.raises(ConfigError) as error:
            dltrain.train(line)
        assert str(error.value) == told
        assert not capsys.readouterr().err
    for line, words in {
        "-m seed=1,2": "-m is an option of the command line. Call it once for each run.",
        "lenet5": "lenet5: not a key=value.",
    }.items():
        with pytest.raises(UserError, match=words):
            dltrain.train(line)
    with pytest.raises(UserError, match="not 3"):
        dltrain.train([3])  # type: ignore[list-item]


def test_an_interruption_and_a_sigterm_reach_who_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught = []
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGTERM, lambda number, frame: caught.append(number))
    asking = signals.asking

    try:
        for number in (signal.SIGINT, signal.SIGTERM):

            def at_once(stop: Any, number: int = number) -> Any:
                stop(number)
                return asking(stop)

            monkeypatch.setattr(signals, "asking", at_once)
            with pytest.raises(Interrupted, match="dltrain resume outputs/mlp-digits"):
                dltrain.train(QUICK)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught == [signal.SIGTERM]


def test_a_handler_from_outside_python_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = process()["signals"]
    monkeypatch.setattr(signals.signal, "getsignal", lambda number: None)
    with signals.asking(lambda number: None):
        monkeypatch.undo()
        assert process()["signals"] == before


def test_a_notebook_has_one_line_that_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, content: dict[str, str], raw: bool) -> None:
            shown.append(content["text/plain"])

    def display(content: dict[str, str], raw: bool, display_id: bool) -> Handle:
        shown.append(content["text/plain"])
        return Handle()

    module = types.ModuleType("IPython.display")
    module.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    monkeypatch.setattr(notebook, "SECONDS_BETWEEN", 0.01)
    monkeypatch.setenv("FORCE_COLOR", "1")  # as Jupyter's kernel does
    bar = NotebookBar("[bold]step 3[/]")
    bar.start()
    while len(shown) < 3:
        time.sleep(0.01)
    bar.stop()
    ended = len(shown)
    time.sleep(0.03)
    assert len(shown) == ended
    assert set(shown) == {"step 3"}


def test_a_notebook_s_run_writes_no_colors_anywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(console, "in_notebook", lambda: True)
    monkeypatch.setattr(NotebookBar, "start", lambda bar: None)
    monkeypatch.setattr(NotebookBar, "stop", lambda bar: None)
    run = dltrain.train(QUICK)
    said = capsys.readouterr().out
    assert "multiply-adds" in said
    for text in (said, (run.path / "train.log").read_text()):
        assert "\x1b" not in text
