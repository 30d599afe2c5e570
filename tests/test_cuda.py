"""What only a CUDA device can show; skipped where there is none."""

from __future__ import annotations

import itertools
import os
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain import messages
from dltrain import training as run
from dltrain.assemble import Assembly
from dltrain.contracts.data import Batch, Placement
from dltrain.core.loop import Trainer
from dltrain.core.state import Place
from dltrain.data.streams.in_memory import Batching, Limits
from dltrain.data.streams.on_disk import FileStream
from dltrain.runs.finding import latest
from tests.asking import gathered
from tests.conftest import Compose
from tests.test_parallel import world_of_one
from tests.test_resume import assert_same_end
from tests.test_resume_matrix import BATCHES, DRAWN, FAMILIES

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

QUICK = (
    "data=digits",
    "data.batch_size=64",
    "data.limit=1000",
    "callbacks=none",
    "trainer.epochs=2",
    "device=cuda",
)
WAITING = {"replay", "rollouts", "whole episodes"}
"""Families whose step acts: an environment of the host has to be told what to do."""
MODELS = ("model=mlp", "model=lenet5", "model=cnn", "model=gan", "model=vae", "model=autoencoder")


@pytest.mark.parametrize("model", MODELS)
def test_a_step_has_no_hidden_sync(model: str, compose: Compose, tmp_path: Path) -> None:
    """Gathering and augmenting a batch, and learning from it; the first steps may wait."""
    learn_without_sync(
        compose(model, *QUICK, "data.augment.shift=1", f"output_dir={tmp_path}"), wait=3
    )


@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in WAITING])
def test_a_step_of_each_family_has_no_hidden_sync(
    family: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    # No phase of a plan ends in these steps, and no checkpoint is due.
    common = ("callbacks=none", "device=cuda", "trainer.steps=60", BATCHES)
    config = compose(*common, *FAMILIES[family])
    if name := config["data"].get("path"):
        DRAWN[name](tmp_path / name)
    learn_without_sync(config, wait=7)


def learn_without_sync(config: dict[str, Any], wait: int) -> None:
    """Take ``wait`` steps, and then three that must not wait for the device."""
    parts = Assembly(config).read()
    with messages.shown() as shown:
        made = run.Run(config, parts, shown, 0.0)
    optimize, task = made.optimize, parts.task
    epochs = (made.streams["train"].batches(epoch) for epoch in itertools.count())
    batches = itertools.chain.from_iterable(epochs)
    for _ in range(wait):
        task.train_step(next(batches), optimize)

    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            optimize.set_multiplier(0.5)
            task.train_step(next(batches), optimize)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("data", ["digits", "moons", "diabetes", "toy_reviews"])
def test_metrics_gather_without_a_hidden_sync(data: str, compose: Compose) -> None:
    """The first batch may wait, for the examples that are shown are of it."""
    model = "model=gru" if data == "toy_reviews" else "model=mlp"
    parts = Assembly(
        compose(f"data={data}", model, "device=cuda", "callbacks=none", "data.batch_size=32")
    ).read()
    stream = parts.source.open(Placement(parts.settings.device, 0))["train"]
    split = [
        (stream.rows(0, number), batch)
        for number, batch in zip(range(2), stream.plain(), strict=False)
    ]
    with torch.inference_mode():
        task = parts.task.eval()
        metrics = task.metrics(final=False)
        gathered(task, metrics, split[:1])
        torch.cuda.set_sync_debug_mode("error")
        try:
            gathered(task, metrics, split[1:])
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert all(metric.compute() for metric in metrics)


@pytest.mark.parametrize("model", ["model=mlp", "model=lenet5"])
def test_it_learns_there_what_it_learns_on_the_cpu(
    model: str, compose: Compose, tmp_path: Path
) -> None:
    ended = [
        run.train(compose(model, *QUICK, f"device={device}", f"output_dir={tmp_path}"))
        for device in ("cpu", "cuda")
    ]

    assert ended[1]["device"] == "cuda:0"
    assert ended[1]["test"]["loss"] == pytest.approx(ended[0]["test"]["loss"], rel=0.02)


@pytest.mark.parametrize("model", ["model=mlp", "model=gan", "model=resnet18"])
def test_a_world_of_one_by_nccl_trains_as_a_process_alone(
    model: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("trainer.sync_batch_norm=true", "trainer.accumulate=2", "trainer.clip_norm=1")
    config = compose(model, *QUICK, *more, f"output_dir={tmp_path}")
    alone = run.train(config)
    with world_of_one(torch.device("cuda", 0), "cpu:gloo,cuda:nccl") as ranks:
        monkeypatch.setattr(run, "joined", lambda *_: nullcontext(ranks))
        together = run.train(config)

    assert together["test"].keys() == alone["test"].keys()
    if model == "model=mlp":
        assert together["test"]["loss"] == pytest.approx(alone["test"]["loss"], rel=1e-3)


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("model", ["model=mlp", "model=lenet5", "model=vae", "model=autoencoder"])
def test_a_replayed_run_is_a_plain_one(
    model: str, precision: str, compose: Compose, tmp_path: Path
) -> None:
    ended = [
        run.train(
            compose(
                *(model, *QUICK, f"trainer.cuda_graph={mode}", f"trainer.precision={precision}"),
                *("schedule=onecycle", f"output_dir={tmp_path}"),
            )
        )
        for mode in ("off", "on")
    ]

    assert ended[1]["test"] == pytest.approx(ended[0]["test"], rel=0.05)


RECORDED = {
    **{name: arguments for name, arguments in FAMILIES.items() if name not in WAITING},
    # Other threads copy to the device while a step is recorded.
    "images of workers": (*FAMILIES["images in files"], "data.workers=2"),
    "compiled": (*FAMILIES["regression"], "trainer.compile=on"),
    "averaged weights": (*FAMILIES["denoising"], "modifier=ema"),
}


@pytest.mark.parametrize("family", RECORDED)
def test_a_replayed_run_of_each_family_is_a_plain_one(
    family: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it is stepped plainly, where a step of it cannot be recorded."""
    monkeypatch.chdir(tmp_path)
    common = ("callbacks=none", "device=cuda", "trainer.steps=40", "trainer.accumulate=1", BATCHES)
    configs = [
        compose(*common, *RECORDED[family], f"trainer.cuda_graph={mode}", f"output_dir={mode}")
        for mode in ("off", "auto")
    ]
    if name := configs[0]["data"].get("path"):
        DRAWN[name](tmp_path / name)
    ended = [run.train(config) for config in configs]

    assert ended[1]["test"] == pytest.approx(ended[0]["test"], rel=0.1, nan_ok=True)


def test_batches_from_files_arrive_whole(tmp_path: Path) -> None:
    rows = np.arange(1_000 * 64, dtype=np.float32).reshape(1_000, 64)
    np.save(tmp_path / "rows.npy", rows)
    device = torch.device("cuda:0")
    batching = Batching(Limits(96), device, lambda batch, draw: batch, shuffle=True)
    stream = FileStream({"input": tmp_path / "rows.npy"}, None, batching)

    for number, batch in enumerate(stream.batches(0)):
        spent = batch["input"] * 2  # work that the next copy runs beside
        expected = torch.from_numpy(rows)[stream.rows(0, number).cpu()]
        assert torch.equal(batch["input"].cpu(), expected)
        assert torch.equal(spent.cpu(), 2 * expected)


@pytest.mark.parametrize("mode", ["off", "on"])
def test_an_interrupted_run_ends_with_the_same_bytes(
    mode: str, compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("model=mlp", *QUICK, "model.dropout=0.5", f"trainer.cuda_graph={mode}")
    whole, cut = (tmp_path / name for name in ("whole", "cut"))
    run.train(compose(*settings, f"output_dir={whole}"))
    with monkeypatch.context() as patch:
        interrupt_after_step(10, patch)
        assert run.train(compose(*settings, f"output_dir={cut}"))["status"] == "interrupted"

    run.resume("latest", cut)

    assert_same_end(latest(whole), latest(cut))


def interrupt_after_step(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send this process a signal after a training step; a replayed one runs nothing of a task."""
    step = Trainer._step

    def stepped(self: Trainer, batch: Batch, place: Place) -> None:
        step(self, batch, place)
        if self.state.step == number:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "_step", stepped)
