"""The loop by its contracts: whatever a task, a stream, a plan, a probe or a modifier may do."""

from __future__ import annotations

import csv
import json
import logging
import math
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dltrain import training as run
from dltrain.contracts.data import Batch, DataSpec, Draw, Field, Placement, Source, Stream, Streams
from dltrain.contracts.metric import Evaluation, Metric, Outputs
from dltrain.contracts.run import Callback, Logged, Modifier, Probe, Setup, View
from dltrain.contracts.task import Metrics, Monitor, Optimize, Phase, Task
from dltrain.core.loop import OwnPhases
from dltrain.errors import ConfigError, Diverged, UserError
from dltrain.metrics.history import History
from dltrain.runs import checkpoint
from dltrain.runs.folder import shortest
from dltrain.runs.load import load, reader_of_run
from tests.conftest import Compose

HERE = "tests.test_loop"
SIZES = (4, 4, 3)
"""Examples in each batch of an epoch of :class:`Counting`."""


class Counting(Stream):
    """Batches that say which they are: ``input`` is (epoch, position, row of the split)."""

    def __init__(self, endless: bool = False, offset: int = 0) -> None:
        self.endless, self.offset = endless, offset

    @property
    def steps_per_epoch(self) -> int | None:
        return None if self.endless else len(SIZES)

    @property
    def examples(self) -> int | None:
        return None if self.endless else sum(SIZES)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        position = start
        while self.endless or position < len(SIZES):
            rows = self.rows(epoch, position)
            place = torch.tensor([epoch, position]).expand(len(rows), 2)
            numbers = torch.cat([place, rows[:, None]], 1).float()
            yield {"input": numbers + self.offset, "target": rows[:, None].float()}
            position += 1

    def rows(self, epoch: int, position: int) -> Tensor:
        first = sum(SIZES[: position % len(SIZES)])
        return torch.arange(first, first + SIZES[position % len(SIZES)])


class Numbers(Source):
    """As many streams as ``splits`` names."""

    def __init__(
        self, splits: Sequence[str] = ("train", "validation", "test"), endless: bool = False
    ) -> None:
        self.splits, self.endless = splits, endless

    def outline(self) -> DataSpec:
        return DataSpec(
            {"input": Field((3,), "number", "input"), "target": Field((1,), "number", "target")}
        )

    def read(self, seed: int) -> DataSpec:
        return self.outline()

    def open(self, placement: Placement) -> Streams:
        endless = self.endless
        return {
            name: Counting(endless and name == "train", offset=100 * (name == "other"))
            for name in self.splits
        }


class Mean(Metric):
    """The mean of a column of outputs over all examples."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self._sums = dict.fromkeys(names, 0.0)
        self._count = 0

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        assert len(rows) == len(batch["input"])
        self._count += len(rows)
        for name in self.names:
            self._sums[name] += float(outputs[name].sum())

    def merge(self, other: Mean) -> None:
        self._count += other._count
        for name in self.names:
            self._sums[name] += other._sums[name]

    def compute(self) -> Evaluation:
        return Evaluation({name: total / self._count for name, total in self._sums.items()})

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sums, self._count = state["sums"], state["count"]


class Recorder(Task):
    """Notes every batch it is given; its training metrics have other names than its evaluation."""

    seen: list[tuple[str, list[float]]] = []  # noqa: RUF012 - what one test looks at
    monitor = Monitor("error", "min")

    def __init__(self, model: nn.Module, worse_from: int = 10**9, monitored: str = "error") -> None:
        super().__init__()
        self.model = model
        self.monitor = Monitor(monitored, "min")
        self.worse_from = worse_from
        self.steps = 0
        self.phase = ""

    def enter(self, phase: Phase) -> None:
        self.phase = phase.name

    def leave(self, phase: Phase) -> None:
        Recorder.seen.append((f"{phase.name} is over", [float(self.steps)]))

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        Recorder.seen.append((self.phase, batch["input"][0].tolist()))
        self.steps += 1
        loss = (self.model(batch["input"] / 1000) - batch["target"]).square().mean()
        optimize(loss)
        has = torch.tensor(float(self.steps % 2))
        return {
            "fit": loss.detach(),
            # Only every other batch has a value of this.
            "per_token": (torch.tensor(float(self.steps)) / has, 10 * has),
        }

    def forward(self, batch: Batch) -> Outputs:
        return {"answer": self.model(batch["input"])}

    def eval_step(self, batch: Batch, draw: Draw) -> Outputs:
        noise = torch.rand(len(batch["input"]), generator=draw.generator)
        # What is told depends on the phase.
        noise += float(self.phase == "rehearse")
        error = torch.full((len(noise),), float(max(0, self.steps - self.worse_from)))
        return {"error": error, "noise": noise, "final": torch.full_like(error, draw.final)}

    def metrics(self, final: bool) -> Sequence[Metric]:
        return [Mean("error", "final"), Mean("noise")]

    def training_state(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        self.steps = state["steps"]


def node(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{HERE}.{name}", **arguments}


@pytest.fixture
def recorder(compose: Compose, tmp_path: Path) -> dict[str, Any]:
    """The config of a run of :class:`Recorder` on :class:`Numbers`: 3 epochs of 3 steps."""
    Recorder.seen = []
    config = compose(
        "callbacks=none", "device=cpu", "model=linreg", "data=line", "trainer.epochs=3"
    )
    config["trainer"] |= {"log_every": 2, "evaluate_every": 1}
    return config | {
        "data": node("Numbers"),
        "task": node("Recorder"),
        "output_dir": str(tmp_path / "outputs"),
    }


def trained(config: Mapping[str, Any]) -> Path:
    run.train(config)
    return newest(config)


def newest(config: Mapping[str, Any]) -> Path:
    runs = Path(config["output_dir"]).glob("*/*/config.yaml")
    return max(runs, key=lambda path: path.stat().st_mtime_ns).parent


def rows(folder: Path, split: str, name: str) -> list[tuple[int, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        found = [r for r in csv.DictReader(file) if r["split"] == split and r["name"] == name]
    return [(int(row["step"]), float(row["value"])) for row in found]


def test_training_and_evaluation_may_have_metrics_of_other_names(
    recorder: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(recorder)
    assert [step for step, _ in rows(folder, "validation", "error")] == [3, 6, 9]
    assert rows(folder, "test", "final") == [(9, 1.0)]
    assert rows(folder, "validation", "final")[-1] == (9, 0.0)
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch 1"))
    assert "epoch 1  fit" in line
    assert "validation error 0.0000" in line


def test_a_monitor_that_no_evaluation_gives_is_refused_before_the_run(
    recorder: dict[str, Any],
) -> None:
    recorder["task"]["monitored"] = "accuracy"
    with pytest.raises(UserError, match=r"monitors 'accuracy'.*It gives error, final, noise"):
        run.train(recorder)
    assert not Path(recorder["output_dir"]).exists()


def test_means_weigh_what_they_are_means_over(recorder: dict[str, Any]) -> None:
    folder = trained(recorder)
    # Batches 1, 3, 5, … have a value each, of one weight; 2, 4, … have none, and are not counted.
    assert rows(folder, "train", "per_token") == [(3, 2.0), (6, 5.0), (9, 8.0)]
    # Of step 4 alone, since the evaluation before it, there is no mean.
    assert rows(folder, "steps", "per_token") == [(2, 1.0), (6, 5.0), (8, 7.0)]


def test_a_mean_without_any_weight_is_left_out() -> None:
    history = History()
    nothing = (torch.tensor(float("nan")), torch.tensor(0.0))
    history.add({"loss": torch.tensor(1.0), "words": nothing}, 3)
    assert history.read() is None
    assert history.period() == {"loss": 1.0}
    history.add({"loss": torch.tensor(3.0), "words": (torch.tensor(7.0), torch.tensor(5.0))}, 1)
    assert history.read() is None
    assert history.period() == {"loss": 1.5, "words": 7.0}
    bad = (torch.tensor(float("inf")), torch.tensor(1.0))
    history.add({"loss": torch.tensor(1.0), "words": bad}, 1)
    assert history.read() == 0


def test_evaluation_noise_is_the_same_each_time(recorder: dict[str, Any]) -> None:
    folder = trained(recorder)
    noise = [value for _, value in rows(folder, "validation", "noise")]
    assert len(set(noise)) == 1
    assert rows(folder, "test", "noise") == [(9, noise[0])]


def test_evaluation_within_an_epoch(recorder: dict[str, Any]) -> None:
    recorder["trainer"] |= {"evaluate_steps": 2, "steps": 7}
    folder = trained(recorder)
    assert [step for step, _ in rows(folder, "validation", "error")] == [2, 4, 6, 7]
    assert [step for step, _ in rows(folder, "train", "fit")] == [2, 4, 6, 7]


def test_only_a_training_split_is_required(recorder: dict[str, Any]) -> None:
    recorder["data"] = node("Numbers", splits=["train"])
    summary = run.train(recorder)
    assert (summary["status"], summary["validation"], summary["test"]) == ("finished", {}, {})


def test_data_that_never_ends_is_counted_in_steps(recorder: dict[str, Any]) -> None:
    recorder["data"] = node("Numbers", endless=True)
    with pytest.raises(UserError, match=r"trainer\.steps must be given"):
        run.train(recorder)
    recorder["trainer"]["steps"] = 8
    with pytest.raises(UserError, match=r"trainer\.evaluate_steps must be given"):
        run.train(recorder)
    recorder["trainer"]["evaluate_steps"] = 3
    folder = trained(recorder)
    assert [place[1] for _, place in Recorder.seen[:-1]] == [*range(8)]
    assert [step for step, _ in rows(folder, "validation", "error")] == [3, 6, 8]


class Alternating(OwnPhases):
    """Five steps on ``train``, two on ``other``, and so on."""

    def phases(self, steps: int, steps_per_epoch: Mapping[str, int | None]) -> Sequence[Phase]:
        assert steps_per_epoch == {"train": 3, "validation": 3, "test": 3, "other": 3}
        found: list[Phase] = []
        while steps:
            name, most = [("learn", 5), ("rehearse", 2)][len(found) % 2]
            stream = "train" if name == "learn" else "other"
            found.append(Phase(name, min(most, steps), stream))
            steps -= found[-1].steps
        return found


def test_a_plan_orders_phases(recorder: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    recorder["data"] = node("Numbers", splits=["train", "validation", "test", "other"])
    monkeypatch.setattr("dltrain.assemble.OwnPhases", Alternating)
    trained(recorder)
    learn = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    rehearse = [(100, 100), (100, 101)]
    expected = [
        *(("learn", place) for place in learn[:5]),
        ("learn is over", (5,)),
        *(("rehearse", place) for place in rehearse),
        ("rehearse is over", (7,)),
        *(("learn", place) for place in learn[5:]),
        ("learn is over", (9,)),
    ]
    assert [(phase, tuple(place[:2])) for phase, place in Recorder.seen] == expected


def test_the_ordinary_plan_is_one_phase() -> None:
    assert OwnPhases(Recorder(nn.Linear(1, 1))).phases(7, {}) == [Phase("train", 7)]


def test_the_best_checkpoint_names_the_step_of_the_best_evaluation(
    recorder: dict[str, Any],
) -> None:
    recorder["task"]["worse_from"] = 6  # every evaluation after step 6 is worse
    folder = trained(recorder)
    best = torch.load(folder / "checkpoints/best.pt", weights_only=True)
    # The first of equals is kept.
    assert best["step"] == 3


class Undefined(Mean):
    """A metric that has no value on this data."""

    def compute(self) -> Evaluation:
        return Evaluation(dict.fromkeys(self.names, math.nan))


def test_the_last_weights_in_place_of_the_best_are_told(
    recorder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Recorder, "metrics", lambda self, final: [Undefined("error", "final"), Mean("noise")]
    )
    recorder["trainer"]["test_weights"] = "best"
    folder = trained(recorder)
    assert not (folder / "checkpoints/best.pt").exists()
    log = (folder / "train.log").read_text()
    assert "no evaluation gave a number for error" in log
    assert "the last ones are used" in log


def strictly(path: Path) -> Any:
    """A JSON file's content, which knows no NaN."""

    def refuse(word: str) -> None:
        raise AssertionError(word)

    return json.loads(path.read_text(), parse_constant=refuse)


def test_a_metric_without_a_value_is_null_and_a_word(
    recorder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Recorder, "metrics", lambda self, final: [Undefined("error", "final"), Mean("noise")]
    )
    summary = strictly(trained(recorder) / "summary.json")

    assert summary["status"] == "finished"
    assert summary["test"]["final"] is None
    assert summary["not_finite"]["test.final"] == "nan"


class Exploding(Recorder):
    """Its weights, or what an evaluation says, are no numbers from the step ``from_step`` on."""

    def __init__(self, model: nn.Module, from_step: int, what: str, value: float) -> None:
        super().__init__(model)
        self.from_step, self.what, self.value = from_step, what, value

    def train_step(self, batch: Batch, optimize: Optimize) -> Metrics:
        found = super().train_step(batch, optimize)
        if self.what == "weights" and self.steps >= self.from_step:
            with torch.no_grad():
                next(iter(self.model.parameters())).fill_(self.value)
        return found

    def metrics(self, final: bool) -> Sequence[Metric]:
        bad = self.steps >= self.from_step and self.what in ("loss", "error", "test")
        if not bad or (self.what == "test" and not final):
            return super().metrics(final)
        name = "loss" if self.what == "test" else self.what
        return [*super().metrics(final), Constant(name, self.value)]


class Constant(Undefined):
    """A metric of one value."""

    def __init__(self, name: str, value: float) -> None:
        super().__init__()
        self.names, self._value = (name,), value

    def update(self, outputs: Outputs, batch: Batch, rows: Tensor) -> None:
        assert len(rows) == len(batch["input"])

    def compute(self) -> Evaluation:
        weights = dict.fromkeys(self.names, 1)
        return Evaluation(dict.fromkeys(self.names, self._value), weights=weights)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("what", ["weights", "loss", "error", "test"])
def test_a_run_whose_last_step_explodes_has_not_finished(
    recorder: dict[str, Any], what: str, value: float
) -> None:
    recorder["task"] = node("Exploding", from_step=9, what=what, value=value)
    with pytest.raises(Diverged, match=r"not finite after step 9|ended with no numbers") as caught:
        run.train(recorder)

    folder = newest(recorder)
    summary = strictly(folder / "summary.json")
    assert summary["status"] == "diverged"
    assert (summary["steps"], summary["best_step"]) == (9, 3)
    best = torch.load(folder / "checkpoints/best.pt", weights_only=True)
    assert all(bool(w.isfinite().all()) for w in best["task"].values())
    assert str(shortest(folder) / "checkpoints/best.pt") in str(caught.value)
    assert "Lower optimizer.lr" in str(caught.value)
    # What was evaluated is told, as null and a word.
    told = {"loss": "validation.loss", "error": "validation.error", "test": "test.loss"}
    if what in told:
        assert summary["not_finite"][told[what]] == str(value)


def test_evaluations_that_are_no_numbers_are_never_the_best_and_the_run_goes_on(
    recorder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Once(Exploding):
        def metrics(self, final: bool) -> Sequence[Metric]:
            self.from_step = 3 if self.steps == 3 else 99
            return super().metrics(final)

    monkeypatch.setitem(globals(), "Exploding", Once)
    recorder["task"] = node("Exploding", from_step=3, what="loss", value=math.nan)
    folder = trained(recorder)

    assert strictly(folder / "summary.json")["best_step"] == 6
    assert "validation loss is nan at step 3" in (folder / "train.log").read_text()


class Interrupting(Callback):
    """Ends the run as Ctrl-C does, after ``step``."""

    step = 0

    def log(self, view: View, values: Mapping[str, float]) -> None:
        if view.progress.step == Interrupting.step:
            import os
            import signal

            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("step", range(1, 9))
def test_any_step_may_be_the_last_before_an_interruption(
    recorder: dict[str, Any], step: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DLTRAIN_PACKAGES", "tests")
    monkeypatch.setattr("dltrain.assemble.OwnPhases", Alternating)
    recorder["data"] = node("Numbers", splits=["train", "validation", "test", "other"])
    recorder["trainer"] |= {"log_every": 1, "evaluate_steps": 2, "accumulate": 3}
    recorder["callbacks"] = {"interrupting": node("Interrupting")}
    Interrupting.step = 0
    whole, steps = trained(recorder | {"output_dir": str(tmp_path / "whole")}), Recorder.seen
    Recorder.seen, Interrupting.step = [], step
    summary = run.train(recorder)
    assert (summary["status"], summary["steps"]) == ("interrupted", step)
    Interrupting.step = 0
    cut = newest(recorder)
    assert run.resume(str(cut), tmp_path)["status"] == "finished"
    assert Recorder.seen == steps
    assert (cut / "metrics.csv").read_bytes() == (whole / "metrics.csv").read_bytes()


class Adding(Modifier):
    """Adds 1 to all weights in evaluation, and notes what it was asked."""

    told: list[str] = []  # noqa: RUF012

    def attach(self, task: Task) -> None:
        Adding.told.append("attach")
        self.task = task

    def start(self, groups: Mapping[str, Any]) -> None:
        Adding.told.append(f"start {', '.join(groups)}")
        self.updates = 0

    def after_update(self, name: str) -> None:
        assert not torch.is_grad_enabled()
        self.updates += 1

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        with torch.no_grad():
            for parameter in self.task.parameters():
                parameter += 1
            yield
            for parameter in self.task.parameters():
                parameter -= 1

    def finish(self, task: Task) -> None:
        assert task is self.task
        Adding.told.append("finish")

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.updates = state["updates"]


def test_a_modifier_has_the_weights_that_are_evaluated_and_loaded(
    recorder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DLTRAIN_PACKAGES", "tests")
    Adding.told = []
    recorder["modifiers"] = {"adding": node("Adding")}
    folder = trained(recorder)
    assert Adding.told == ["attach", "start model"]
    last, best = (
        torch.load(folder / "checkpoints" / f"{name}.pt", weights_only=True)
        for name in ("last", "best")
    )
    assert last["modifiers"] == [{"updates": 9}]
    loaded = load(folder).state_dict()
    assert all(torch.equal(w, last["task"][name] + 1) for name, w in loaded.items())
    assert Adding.told[2:] == ["attach", "start model", "finish"]
    # best.pt has the weights as they were evaluated, and nothing is added to them again.
    loaded = load(folder, "best").state_dict()
    assert all(torch.equal(w, best["task"][name]) for name, w in loaded.items())
    assert Adding.told[5:] == ["attach", "finish"]


class Asking(Probe):
    """Draws, trains mode and all, and shows what it saw."""

    names = ("drawn",)
    heard: list[str] = []  # noqa: RUF012

    def look(self, task: Task, streams: Streams, view: View, split: str) -> Evaluation:
        assert not task.training
        assert not torch.is_grad_enabled()
        task.train()
        view.log(Logged(scalars={"seen": float(view.progress.step)}, texts={"split": split}))
        return Evaluation({"drawn": float(torch.rand(()))})

    def logged(self, view: View, logged: Logged) -> None:
        Asking.heard.append(f"{logged.texts['split']} {logged.scalars['seen']:.0f}")


def test_a_probe_leaves_the_run_as_it_was(recorder: dict[str, Any], tmp_path: Path) -> None:
    alone = trained(recorder | {"output_dir": str(tmp_path / "alone")})
    Asking.heard = []
    asked = trained(recorder | {"callbacks": {"asking": node("Asking")}})
    weights = [
        torch.load(folder / "checkpoints/last.pt", weights_only=True)["task"]
        for folder in (alone, asked)
    ]
    assert all(torch.equal(w, weights[1][name]) for name, w in weights[0].items())
    assert len(rows(asked, "validation", "drawn")) == 3
    assert Asking.heard[:2] == ["train 3", "validation 3"]
    assert Asking.heard[-1] == "test 9"


class Checking(Callback):
    """Keeps what it is told before the run, and says something."""

    setup: Setup | None = None

    def check(self, setup: Setup) -> None:
        Checking.setup = setup
        logging.getLogger("dltrain.checking").warning("said before the run has a folder")

    def evaluated(self, view: View, split: str, evaluation: Evaluation) -> None:
        if split == "test":
            logging.getLogger("dltrain.checking").info("said at the end")


def test_whatever_is_logged_is_shown_and_in_the_log_file(
    recorder: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = trained(recorder | {"callbacks": {"checking": node("Checking")}})
    setup = Checking.setup
    assert setup is not None
    assert setup.splits == {"train", "validation", "test"}
    assert list(setup.metrics) == ["error", "final", "noise"]
    assert list(setup.groups) == ["model"]
    shown, log = capsys.readouterr(), (folder / "train.log").read_text()
    assert "warning: said before the run has a folder" in shown.err
    assert "note: said at the end" in shown.out
    for line in ("warning: said before the run has a folder", "note: said at the end"):
        assert log.count(line) == 1
    assert log.index("said before") < log.index("said at the end")
    assert not logging.getLogger("dltrain").handlers


class OfNumpy(Mean):
    """A metric whose numbers are numpy's, as those of scikit-learn are."""

    def compute(self) -> Evaluation:
        found = super().compute().scalars
        return Evaluation({name: np.float64(value) for name, value in found.items()})


def test_a_metric_may_compute_by_numpy(
    recorder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Recorder, "metrics", lambda self, final: [OfNumpy("error", "final"), OfNumpy("noise")]
    )
    folder = trained(recorder)
    assert rows(folder, "validation", "error")
    assert checkpoint.load(folder / "checkpoints/last.pt")["loop"]["results"]["validation"]


def test_a_network_that_fails_at_once_is_told_and_leaves_no_folder(
    recorder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: Recorder, batch: Batch) -> Outputs:
        raise RuntimeError("a bug of the user's")

    monkeypatch.setattr(Recorder, "forward", forward)
    with pytest.raises(UserError, match="Recorder fails: a bug of the user's") as told:
        run.train(recorder)
    assert isinstance(told.value.__cause__, RuntimeError)
    assert not Path(recorder["output_dir"]).exists()


@pytest.mark.parametrize("kind", [UserError, KeyError])
def test_an_error_of_a_later_step_keeps_its_own_cause(
    kind: type[Exception], recorder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    train_step = Recorder.train_step

    def fail(self: Recorder, batch: Batch, optimize: Any) -> Any:
        if self.begun:
            raise kind("later") from OSError("why")
        self.begun = True
        return train_step(self, batch, optimize)

    monkeypatch.setattr(Recorder, "begun", False, raising=False)
    monkeypatch.setattr(Recorder, "train_step", fail)
    with pytest.raises(kind, match="later") as told:
        run.train(recorder)
    assert isinstance(told.value.__cause__, OSError)


def test_training_metrics_of_changing_names_are_one_message() -> None:
    history, one = History(), torch.ones(())
    history.add({"fit": one}, 2)
    history.read()
    history.add({"other": one}, 2)
    with pytest.raises(UserError, match="gave fit, and then other"):
        history.read()


def test_a_task_may_have_nothing_to_tell_of_its_training() -> None:
    history = History()
    history.add({}, 2)
    assert history.read() is None
    assert history.period() == {}


class Hoarder(Callback):
    """Its state is nothing that a checkpoint could give back."""

    def state_dict(self) -> dict[str, Any]:
        return {"seen": [Path("somewhere")]}


def test_a_state_that_no_checkpoint_gives_back_is_refused_when_it_is_saved(
    recorder: dict[str, Any],
) -> None:
    recorder["callbacks"] = {"hoarder": node("Hoarder")}
    with pytest.raises(UserError, match=r"callbacks, 1, seen, 0: .* this state has a PosixPath"):
        run.train(recorder)


def test_weights_of_another_network_are_one_message(recorder: dict[str, Any]) -> None:
    folder = trained(recorder)
    path = folder / "checkpoints/last.pt"
    state = torch.load(path, weights_only=True)
    damaged = {**state, "task": {name: w[..., :1] for name, w in state["task"].items()}}
    torch.save(damaged, path)
    with pytest.raises(UserError, match=r"another network.*weight is 1x1 there and 1x3 here"):
        checkpoint.load_weights(
            Recorder(nn.Linear(3, 1)),
            {f"{k}".replace("linear.", ""): v for k, v in damaged["task"].items()},
            path,
        )
    torch.save({**state, "format": 1}, path)
    with pytest.raises(UserError, match="of format 1, and this version of dltrain reads format"):
        checkpoint.load(path)


def test_a_run_folder_of_an_earlier_version_is_refused_in_one_line(
    recorder: dict[str, Any],
) -> None:
    folder = trained(recorder)
    (folder / "data.json").unlink()
    for use in (load, reader_of_run):
        with pytest.raises(UserError, match="an earlier version of dltrain wrote this run"):
            use(folder)


def test_load_is_the_packages_own_whatever_was_imported() -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import dltrain.assemble, dltrain; dltrain.load; print(dltrain.load)",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("<function load")


def test_a_running_run_tells_how_far_it_is(
    recorder: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every checkpoint, for nothing else is certain to be kept."""
    told: list[tuple[str, int, int]] = []

    def look(view: View, split: str, evaluation: Evaluation) -> None:
        summary = json.loads((view.path / "summary.json").read_text())
        told.append((summary["status"], summary["steps"], summary["epochs"]))

    monkeypatch.setattr(Checking, "evaluated", lambda self, *seen: look(*seen))
    recorder["trainer"]["checkpoint_seconds"] = 0.0
    trained(recorder | {"callbacks": {"checking": node("Checking")}})
    assert told[2:4] == [("running", 6, 1), ("running", 6, 1)]
    assert told[-1] == ("running", 9, 3)


class Small(nn.Module):
    """A user's own model, whose argument has the name of something that the data knows."""

    given: float | None = None

    def __init__(self, input_shape: Sequence[int], outputs: int, std: float = 0.02) -> None:
        super().__init__()
        Small.given = std
        self.linear = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs)


def test_a_default_is_a_default(compose: Compose, tmp_path: Path) -> None:
    config = compose("callbacks=none", "device=cpu", "data=digits", "trainer.steps=1")
    run.train(config | {"model": node("Small"), "output_dir": str(tmp_path)})
    assert Small.given == 0.02


def test_a_network_for_images_is_refused_on_texts_before_they_are_read(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose("callbacks=none", "device=cpu", "model=lenet5", "data=toy_reviews")
    from dltrain.data.text.toy_reviews import ToyReviews

    monkeypatch.setattr(ToyReviews, "read", lambda self, seed: pytest.fail("it was read"))
    with pytest.raises(ConfigError, match="LeNet5 needs 'input_shape'"):
        run.train(config)
