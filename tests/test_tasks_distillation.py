"""Distillation: its loss by hand, which teachers it takes, and a student that needs none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dltrain.contracts.data import Batch, DataSpec
from dltrain.errors import ConfigError, UserError
from dltrain.runs.folder import RunFolder
from dltrain.runs.load import load, read_config
from dltrain.runs.newest import newest_run
from dltrain.tasks.classification import Classification
from dltrain.tasks.distillation import Distillation
from dltrain.tasks.losses.similarity import similarity_loss
from tests.asking import classes, numbers
from tests.conftest import Train

NAMES = ("a", "b", "c")
IMAGES: dict[str, Any] = {"mean": (0.5,), "std": (0.25,)}


def network(hidden: int = 5) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, hidden), nn.ReLU(), nn.Linear(hidden, 3))


def taught(spec: DataSpec, theirs: DataSpec, **settings: Any) -> tuple[Distillation, nn.Module]:
    """A student of ``spec`` and its teacher's network, a run of ``theirs``."""
    torch.manual_seed(0)
    task, teacher = Distillation(network(3), spec, "RUN", **settings), network()
    asked = Classification(teacher, theirs if theirs.target.kind == "class" else spec)
    task.others()["teacher"].open(asked, theirs)
    return task, teacher


def loss_of(task: Distillation, batch: Batch) -> Tensor:
    found: list[Any] = []
    task.train_step(batch, lambda loss, name="model", weight=None: found.append(loss))
    return found[0]


def batch_of(*shape: int) -> Batch:
    torch.manual_seed(1)
    return {"input": torch.rand(6, *shape), "target": torch.tensor([0, 1, 2, 0, 1, 2])}


def test_the_loss_is_hintons() -> None:
    spec = classes(NAMES, 4)
    task, teacher = taught(spec, spec, temperature=3.0, alpha=0.7)
    batch = batch_of(4)
    logits = task.model(batch["input"])
    p = (teacher(batch["input"]) / 3).softmax(1)
    soft = (p * (p.log() - (logits / 3).log_softmax(1))).sum(1).mean() * 9

    hard = functional.cross_entropy(logits, batch["target"])

    torch.testing.assert_close(loss_of(task, batch), 0.3 * hard + 0.7 * soft)


def test_a_teacher_may_name_the_classes_in_another_order() -> None:
    task, teacher = taught(classes(NAMES, 4), classes(("c", "a", "b"), 4))
    batch = batch_of(4)

    torch.testing.assert_close(
        task.others()["teacher"].logits(batch), teacher(batch["input"])[:, [1, 2, 0]]
    )


def test_a_teacher_sees_images_as_its_own_data_was_normalized() -> None:
    task, teacher = taught(classes(NAMES, 1, 2, 2), classes(NAMES, 1, 2, 2, **IMAGES))
    batch = batch_of(1, 2, 2)

    torch.testing.assert_close(
        task.others()["teacher"].logits(batch), teacher((batch["input"] - 0.5) / 0.25)
    )


def test_features_are_matched_by_how_alike_examples_are() -> None:
    spec = classes(NAMES, 4)
    task, teacher = taught(spec, spec, alpha=0.0, features={"1": "2"}, feature_weight=2.0)
    batch = batch_of(4)
    hidden = [task.model[:2](batch["input"]), teacher[:3](batch["input"])]
    rows = [functional.normalize(one @ one.T) for one in hidden]
    hard = functional.cross_entropy(task.model(batch["input"]), batch["target"])

    torch.testing.assert_close(loss_of(task, batch), hard + 2 * (rows[0] - rows[1]).square().mean())
    assert similarity_loss(hidden[0], 3 * hidden[0]).item() < 1e-12


def test_what_the_teacher_weighs_does_not_move() -> None:
    spec = classes(NAMES, 4)
    task, teacher = taught(spec, spec, features={"1": "1"})

    loss_of(task, batch_of(4)).backward()

    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in task.model.parameters())
    assert not any("teacher" in name for name in task.state_dict())


@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        (classes(("a", "b"), 4), "knows 2 classes (a, b), and this data has 3 classes (a, b, c)"),
        (classes(("a", "b", "d"), 4), "knows 3 classes (a, b, d)"),
        (numbers(4), "knows no classes"),
        (classes(NAMES, 5), "reads number 5, and this data has number 4"),
        (classes(NAMES, 4, std=(2.0,)), "with other std"),
        (classes(NAMES, 1, 2, 2), "reads image 1x2x2"),
    ],
)
def test_a_teacher_of_something_else_is_refused(theirs: DataSpec, says: str) -> None:
    with pytest.raises(ValueError, match="the teacher RUN") as error:
        taught(classes(NAMES, 4), theirs)

    assert says in str(error.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
        ({"alpha": 1.5}, "alpha is a fraction from 0 to 1, got 1.5"),
        ({"feature_weight": -1.0}, "feature_weight must be >= 0"),
        ({"features": {"8": "1"}}, "features: the network has no layer '8'; it has 0, 1, 2, 3"),
        ({"features": {"1": "9"}}, "features: the teacher has no layer '9'"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], says: str) -> None:
    spec = classes(NAMES, 4)

    with pytest.raises(ValueError, match=r"^\w") as error:
        taught(spec, spec, **settings)

    assert says in str(error.value)


def test_a_run_is_taught_goes_on_and_is_used_without_its_teacher(
    train: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("data=iris", "model=mlp", "model.hidden=[4]", "trainer.epochs=1")
    teacher = train("name=teacher", *common).folder
    student = train("name=pupil", *common, "task=distillation", f"task.teacher={teacher}").folder
    again = train("name=other", *common, "task=distillation", f"task.teacher={teacher.parent}")
    assert f"{teacher.parent} has 1 run; taken is" in capsys.readouterr().err
    assert read_config(RunFolder(again.folder))["task"]["teacher"] == str(teacher.resolve())
    with pytest.raises(ConfigError, match=r"task\.teacher: latest moves on with every run"):
        train(*common, "task=distillation", "task.teacher=latest")
    with pytest.raises(ConfigError, match=r"^task\.teacher: nobody does not exist[^\n]*$"):
        train(*common, "task=distillation", "task.teacher=nobody")

    teacher.rename(tmp_path / "elsewhere")
    task = load(student)

    assert isinstance(task, Distillation)
    with pytest.raises(UserError, match="has other weights than when this run began"):
        task.load_training_state({"teacher": "0123"})


def test_of_a_folder_of_runs_the_newest_that_has_finished_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "dltrain")
    outputs = tmp_path / "outputs"
    for day, status in enumerate(("finished", "finished", "interrupted"), 1):
        folder = outputs / "mlp-iris" / f"2026-01-0{day}_00-00-00"
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("seed: 0\n")
        (folder / "summary.json").write_text(json.dumps({"status": status}))
    sweep = outputs / "sweeps" / "2026-01-04_00-00-00"
    sweep.mkdir(parents=True)
    jobs = [["seed=0"], ["seed=1"]]
    (sweep / "sweep.json").write_text(json.dumps({"arguments": ["-m"], "jobs": jobs}))
    made = {"job": 1, "run": "mlp-iris/2026-01-01_00-00-00", "status": "running"}
    (sweep / "jobs.jsonl").write_text(f"{json.dumps(made)}\n")

    assert newest_run(str(outputs / "mlp-iris"), outputs).path.name == "2026-01-02_00-00-00"
    assert newest_run(str(outputs), outputs).path.name == "2026-01-02_00-00-00"
    assert newest_run(str(sweep), outputs).path.name == "2026-01-01_00-00-00"
    assert [line.partition(" has ")[2].partition(";")[0] for line in caplog.messages] == [
        "3 runs", "3 runs", "1 run",
    ]  # fmt: skip
    shutil.rmtree(outputs / "mlp-iris" / "2026-01-01_00-00-00")
    shutil.rmtree(outputs / "mlp-iris" / "2026-01-02_00-00-00")
    with pytest.raises(UserError, match=r"mlp-iris has 1 run, which has not finished$"):
        newest_run(str(outputs / "mlp-iris"), outputs)
    with pytest.raises(UserError, match="is not a run folder"):
        newest_run(str(sweep), outputs)
