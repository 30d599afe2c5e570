"""TensorBoard: what a run's event files hold, read back with TensorBoard's own reader."""

from __future__ import annotations

import csv
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.util.tensor_util import make_ndarray

from dltrain import training as run
from dltrain.callbacks import events
from dltrain.callbacks.tensorboard import TensorBoard
from dltrain.config import compose as composition
from dltrain.contracts.metric import Evaluation, Scores
from dltrain.contracts.run import View
from dltrain.errors import UserError
from dltrain.models.mlp import MLP
from dltrain.runs.finding import latest
from tests.conftest import Train

# Six batches an epoch, three epochs.
SETTINGS = (
    "callbacks=[tensorboard]",
    "model=mlp",
    "regularizer=l2",
    "data.limit=200",
    "trainer.epochs=3",
    "trainer.evaluate_every=1",
    "trainer.log_every=4",
    "device=cpu",
)
STEPS, EPOCH = 18, 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that drew at every evaluation."""
    return trained(tmp_path_factory.mktemp("finished"), "callbacks.tensorboard.figure_seconds=0")


@pytest.fixture(scope="module")
def training(folder: Path) -> EventAccumulator:
    return read(folder)


def trained(output_dir: Path, *overrides: str) -> Path:
    config = composition.compose([*SETTINGS, *overrides])
    run.train({**config, "output_dir": str(output_dir)})
    return latest(output_dir)


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), {"scalars": 0, "tensors": 0, "images": 0}).Reload()


def points(events: EventAccumulator, tag: str) -> dict[int, float]:
    return {event.step: event.value for event in events.Scalars(tag)}


def recorded(folder: Path, split: str, name: str, x: str) -> dict[int, float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return {
            int(row[x]): pytest.approx(float(row["value"]), rel=1e-6)
            for row in csv.DictReader(file)
            if (row["split"], row["name"]) == (split, name)
        }


@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_a_metric_has_a_chart_of_each_split_by_step_and_none_twice(
    folder: Path, training: EventAccumulator, name: str
) -> None:
    assert points(training, f"{name}/train") == recorded(folder, "steps", name, "step")
    assert points(training, f"{name}/validation") == recorded(folder, "validation", name, "step")
    assert sorted(points(training, f"{name}/validation")) == [EPOCH, 2 * EPOCH, STEPS]
    charts = [tag for tag in training.Tags()["scalars"] if tag.startswith(f"{name}/")]
    assert sorted(charts) == [f"{name}/{split}" for split in ("test", "train", "validation")]


def test_training_and_validation_are_one_custom_chart(training: EventAccumulator) -> None:
    layout = Layout.FromString(
        make_ndarray(training.Tensors(CONFIG_SUMMARY_TAG)[0].tensor_proto).item()
    )
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert list(charts) == ["loss", "accuracy"]
    for name, patterns in charts.items():
        found = [t for t in training.Tags()["scalars"] if any(re.match(p, t) for p in patterns)]
        assert sorted(found) == [f"{name}/train", f"{name}/validation"]


def test_precision_recall_curves_are_of_each_class(training: EventAccumulator) -> None:
    tags = set(training.PluginTagToContent("pr_curves"))
    assert {f"test/{number}" for number in range(10)} <= tags
    # Of 20 examples, not every class has some.
    assert "validation/0" in tags
    values = make_ndarray(training.Tensors("test/3")[-1].tensor_proto)
    true, false, left, missed, precision, recall = values
    assert set((true + false + left + missed).tolist()) == {360}
    assert (recall[0], precision[0]) == (1, pytest.approx(true[0] / 360))


def test_precision_and_recall_are_scikit_learns() -> None:
    probability = torch.rand(500, generator=torch.Generator().manual_seed(0))
    positive = probability + 0.3 * torch.rand(500, generator=torch.Generator().manual_seed(1)) > 0.7
    curves = events._precision_recall(Scores(probability, positive))
    for place in (0, 40, 90, 126):
        said = probability >= place / 126
        expected = precision_recall_fscore_support(
            positive, said, average="binary", zero_division=1.0
        )
        assert curves[4:, place].tolist() == pytest.approx(expected[:2])


def test_there_is_one_event_file_and_one_entry_in_the_list(folder: Path) -> None:
    found = [path.parent for path in folder.rglob("events.out.tfevents.*")]
    assert Counter(found) == {folder: 1}


def test_what_has_no_validation_curve_is_in_the_run_itself(
    folder: Path, training: EventAccumulator
) -> None:
    for tag in ("learning_rate", "gradient_norm"):
        assert points(training, f"training/{tag}") == recorded(folder, "steps", tag, "step")
    assert all(speed > 0 for speed in points(training, "training/samples_per_second").values())
    assert points(training, "accuracy/test") == recorded(folder, "test", "accuracy", "step")
    assert training.Graph().node


def test_the_graph_begins_with_the_layers(training: EventAccumulator) -> None:
    assert {node.name.split("/")[0] for node in training.Graph().node} == {
        "input",
        "output",
        *("layers.0 (Flatten)", "layers.1 (Linear)", "layers.2 (ReLU)", "layers.3 (Linear)"),
        *("layers.4 (ReLU)", "layers.5 (Linear)"),
    }


def test_figures_and_tables_of_each_split(training: EventAccumulator) -> None:
    for name in ("confusion_matrix", "predictions"):
        steps = {
            split: [event.step for event in training.Images(f"{split}/figures/{name}")]
            for split in ("validation", "test")
        }
        assert steps == {"validation": [EPOCH, 2 * EPOCH, STEPS], "test": [STEPS]}
    image = training.Images("test/figures/confusion_matrix")[0]
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert image.width > 100
    assert image.height > 100
    table = text(training, "test/tables/per_class")
    assert table.startswith("| class | precision | recall | f1 | support |\n| --- |")


def test_the_config_is_there_to_read(folder: Path, training: EventAccumulator) -> None:
    config = (folder / "config.yaml").read_text()
    assert text(training, "config") == f"```yaml\n{config}\n```"


def text(events: EventAccumulator, tag: str) -> str:
    return make_ndarray(events.Tensors(tag)[-1].tensor_proto).item().decode()


def test_hyper_parameters_are_flat_and_in_the_run_itself(training: EventAccumulator) -> None:
    contents = training.PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    values = {name: getattr(v, v.WhichOneof("kind")) for name, v in start.hparams.items()}
    expected = {
        "Model": "MLP",
        "model.hidden": "[256, 128]",
        "model.batch_norm": False,
        "Data": "Digits",
        "data.batch_size": 32,
        "Optimizer": "Adam",
        "Optimizer lr": 0.001,
        "regularizer.l2": "L2",
        "seed": 0,
    }
    assert expected.items() <= values.items()
    # TensorBoard sorts them so.
    assert sorted(values)[:4] == ["Data", "Model", "Optimizer", "Optimizer lr"]
    assert not {"output_dir", "name", "data.root", "trainer"} & set(values)
    end = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG])
    assert end.status == api_pb2.STATUS_SUCCESS


def test_drawing_waits_for_the_end_where_evaluations_are_quick(tmp_path: Path) -> None:
    events = read(trained(tmp_path, "trainer.epochs=2"))
    steps = [event.step for event in events.Images("validation/figures/confusion_matrix")]
    assert steps == [2 * EPOCH]


def test_a_period_in_which_nothing_is_logged_has_a_point_of_its_own(tmp_path: Path) -> None:
    events = read(trained(tmp_path, "trainer.log_every=8"))
    assert sorted(points(events, "loss/train")) == [EPOCH, 8, 16]


def test_without_a_validation_split_there_is_the_test_split(train: Train) -> None:
    line = train("model=linreg", "data=line", "callbacks=[tensorboard]", "trainer.epochs=5").folder
    assert "r2/test" in read(line).Tags()["scalars"]


def test_a_network_that_cannot_be_traced_costs_the_graph_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forward = MLP.forward

    def untraceable(self: MLP, inputs: torch.Tensor) -> torch.Tensor:
        if torch.jit.is_tracing():
            raise NotImplementedError("no tracing here")
        return forward(self, inputs)

    monkeypatch.setattr(MLP, "forward", untraceable)
    events = read(trained(tmp_path, "trainer.epochs=1"))
    assert not events.Tags()["graph"]
    reason = "NotImplementedError: no tracing here"
    assert reason in text(events, "graph")
    assert reason in capsys.readouterr().out


def test_a_failed_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not finite"):
        trained(tmp_path, "optimizer=sgd", "optimizer.lr=1e30", "regularizer=none")
    contents = read(latest(tmp_path)).PluginTagToContent("hparams")
    end = metadata.parse_session_end_info_plugin_data(contents[metadata.SESSION_END_INFO_TAG])
    assert end.status == api_pb2.STATUS_FAILURE


def killed(output_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run as ``kill -9`` leaves it, with events later than its checkpoint."""
    copy = output_dir / "killed"
    tell = TensorBoard.evaluated

    def evaluated(self: TensorBoard, view: View, split: str, evaluation: Evaluation) -> None:
        tell(self, view, split, evaluation)
        if split == "validation" and view.progress.step == 2 * EPOCH:
            self.state_dict()  # which has all events on disk
            shutil.copytree(view.path, copy)

    with monkeypatch.context() as patch:
        patch.setattr(TensorBoard, "evaluated", evaluated)
        trained(output_dir / "original", "trainer.checkpoint_seconds=0")
    return copy


def test_a_resumed_run_has_every_point_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = killed(tmp_path, monkeypatch)
    before = curves(interrupted)
    assert before["loss/validation", 2 * EPOCH], "or there is nothing to forget"
    run.resume(str(interrupted), tmp_path)

    after = curves(interrupted)
    assert all(len(values) == 1 for values in after.values())
    assert after == curves(folder)
    events = read(interrupted)
    assert len(events.Tensors("config")) == 1
    assert points(events, "loss/train") == recorded(interrupted, "steps", "loss", "step")
    assert sorted(beginnings(interrupted)) == [0, 2 * EPOCH + 1]


def beginnings(folder: Path) -> list[int]:
    """From which step on a session begins, for a TensorBoard that was watching all along."""
    return [
        event.step
        for path in folder.glob("events.out.tfevents.*")
        for event in EventFileLoader(str(path)).Load()
        if event.session_log.status == SessionLog.START
    ]


def curves(folder: Path) -> Mapping[tuple[str, int], list[float]]:
    """Every scalar that does not depend on the clock, by tag and step."""
    found: dict[tuple[str, int], list[float]] = {}
    for path in folder.rglob("events.out.tfevents.*"):
        for tag, step, value in scalars(path):
            if tag != "training/samples_per_second":
                found.setdefault((tag, step), []).append(value)
    return found


def scalars(path: Path) -> Iterator[tuple[str, int, float]]:
    event: Any
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                yield value.tag, event.step, make_ndarray(value.tensor).item()


def test_a_run_is_listed_once(folder: Path) -> None:
    outputs = folder.parents[1]
    assert (outputs / "latest").exists()

    listed = EventMultiplexer().AddRunsFromDirectory(str(outputs)).Runs()

    assert set(listed) == {folder.relative_to(outputs).as_posix()}


def test_a_full_disk_is_an_error_of_the_call_that_writes(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of a process are POSIX")
    file, threads = events.EventFile(tmp_path), threading.active_count()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, before[1]))
        file.scalars(1, {"loss": 0.5})
        with pytest.raises(OSError, match="File too large"):
            file.text("config", 1, "x" * 4_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    # Nor does a thread print a traceback of it: there is none.
    assert threading.active_count() == threads
    (path,) = tmp_path.iterdir()
    assert ("loss", 1, 0.5) in list(scalars(path))
