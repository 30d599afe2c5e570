"""What a run makes on its way it also lets go; scripts/flat_memory.py looks at long runs."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn
from matplotlib.figure import Figure

from dltrain import training
from dltrain.callbacks.drawing import rendered
from dltrain.config.compose.composing import launch
from dltrain.contracts.run import Callback, Probe
from dltrain.reports.canvas import blank
from tests.conftest import Compose


class Line:
    """Draws a figure of some parts; each is another one to whoever keeps what was drawn."""

    def __call__(self) -> Figure:
        figure = blank(6, 4)
        for place in range(4):
            figure.add_subplot(2, 2, place + 1).plot([1, 2])
        return figure


def test_a_figure_leaves_nothing_for_a_later_collection_of_garbage() -> None:
    found = []
    for _ in range(4):
        assert rendered("line", Line()) is not None
        found.append(len(gc.get_objects()))
    assert found[3] - found[1] < 100, "a figure is thousands of objects"
    assert gc.isenabled()


class Counts(Callback):
    """How many objects there are after each evaluation."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def evaluated(self, view: Any, split: str, evaluation: Any) -> None:
        if split == "validation":
            gc.collect()
            self.found.append(len(gc.get_objects()))


def test_a_longer_run_has_no_more_objects(compose: Compose, tmp_path: Path) -> None:
    """Of texts: each batch has another length, for which something might be kept."""
    counts = Counts()
    config = compose(
        *("model=gru", "model.hidden_size=4", "data=toy_reviews", "data.limit=100"),
        *("data.test_examples=20", "data.batch_size=4", "callbacks=none", "device=cpu"),
        *("trainer.steps=120", "trainer.evaluate_steps=20", "trainer.log_every=10"),
        "trainer.checkpoint_seconds=1e9",  # the first one imports what it needs
    )
    training.train(config | {"output_dir": str(tmp_path)}, (), [counts])
    assert len(counts.found) == 6
    assert counts.found[-1] - counts.found[1] < 20, "80 steps, four evaluations"


class Sees(Probe):
    """Knows the run's network and its training data for as long as they are there."""

    def begin(self, task: Any, streams: Any, view: Any) -> None:
        self.known = [weakref.ref(task), weakref.ref(streams["train"])]


def test_a_run_that_has_ended_leaves_neither_network_nor_data(
    compose: Compose, tmp_path: Path
) -> None:
    """Else those of several runs would lie beside each other, on the device, too."""
    config = compose(
        *("model=mlp", "data=moons", "trainer.steps=2", "callbacks=tensorboard", "device=cpu"),
        *("modifier=ema", "trainer.accumulate=2", f"output_dir={tmp_path}"),
    )
    sees = Sees()
    gc.disable()
    try:
        training.train(config, (), [sees])
    finally:
        gc.enable()
    assert [there() for there in sees.known] == [None, None]


def test_a_sweep_keeps_no_configs_of_the_jobs_that_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["dltrain"])
    monkeypatch.chdir(tmp_path)
    kept = []

    def work(job: Any) -> None:
        found = [one for one in gc.get_objects() if type(one) is JobReturn]
        kept.append(sum(one.cfg is not None for one in found))

    launch(["-m", "seed=1,2,3", "model=mlp", "data=moons"], work)
    assert kept == [1, 1, 1], "its own"
