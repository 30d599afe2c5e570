"""Tasks: each learns one batch by heart, by moving everything it was given to move."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dltrain.contracts.data import Batch, DataSpec, Field, Placement
from dltrain.contracts.task import Metrics, Phase, Predicts, Task
from dltrain.runs.load import load
from dltrain.tasks.classification import Classification
from dltrain.tasks.regression import Regression
from dltrain.tasks.supervised import Supervised
from tests.asking import answers, assembled, classes, evaluated, numbers
from tests.conftest import REPOSITORY, Compose, Train

# What trains each task here, the steps that suffice, and the loss they must reach.
EXAMPLES = {
    "classification": (["model=mlp", "model.hidden=[32]", "data=digits", "data.batch_size=16"], 60),
    "regression": (["model=linreg", "data=line"], 300),
    "text_classification": (
        ["model=gru", "data=toy_reviews", "data.examples=64", "data.batch_size=16"],
        60,
    ),
    "supervised": (["model=linreg", "data=line", "task=supervised"], 300),
    "adversarial": (
        [
            *("model=gan", "model.generator_hidden=[64]", "model.discriminator_hidden=[64]"),
            *("data=digits", "data.batch_size=16", "optimizer.lr=2e-3", "modifier=none"),
        ],
        200,
    ),
    "reconstruction": (
        [
            *("model=autoencoder", "model.hidden=[64]", "data=digits", "data.batch_size=16"),
            *("task.loss=mse", "optimizer.lr=3e-3"),
        ],
        200,
    ),
    # Of binarized images there is always something that nobody can know.
    "variational": (
        [
            *("model=vae", "model.hidden=[64]", "data=digits", "data.batch_size=16"),
            *("model.decoder=gaussian", "task.binarize=none", "task.importance_samples=0"),
            "optimizer.lr=3e-3",
        ],
        200,
    ),
    # At the file's own zero weights the perceptron criterion is 0 before anything is learned.
    "perceptron": (
        ["model=perceptron", "model.init=xavier", "data=digits", "data.batch_size=16"],
        60,
    ),
}
LOSS = 0.02
# Tasks of data that is not bundled, or that learn from more than it; and which tests have them.
ELSEWHERE = {
    "adaptive_style": "adain",
    "adversarial_training": "attacks",
    "boltzmann": "tasks_boltzmann",
    "ctc": "audio_models",
    "deep_belief": "tasks_boltzmann",
    "detection": "tasks_detection",
    "distillation": "tasks_distillation",
    "dqn": "acting",
    "fast_style": "fast_style",
    "forecasting": "series_runs",
    "language_model": "language",
    "multilabel": "tasks_multilabel",
    "ppo": "acting",
    "ranking": "recommending",
    "rating": "recommending",
    "reinforce": "acting",
    "segmentation": "segmentation",
    "style_transfer": "style",
    "torchvision_detection": "tasks_detection",
    "translation": "translation_runs",
}

# Where no loss tells what was learned, what does: at least so much before, at most after.
MEASURES = {
    "adversarial": ("sliced_wasserstein", 0.3, 0.15),
    "reconstruction": ("mse", 0.1, 0.005),
    "variational": ("reconstruction", 200.0, 0.0),
}


def first_batch(overrides: list[str], compose: Compose) -> tuple[Task, Batch]:
    """A task as it begins, and the batch that an overfitting run of it trains on."""
    parts = assembled(compose("callbacks=none", "device=cpu", *overrides))
    streams = parts.source.open(Placement(parts.settings.device, seed=0))
    return parts.task, next(iter(streams["train"].batches(0)))


def test_every_task_has_its_example_here() -> None:
    files = {path.stem for path in (REPOSITORY / "configs" / "task").glob("*.yaml")}

    assert files - {"none"} - set(ELSEWHERE) == set(EXAMPLES)
    assert all((REPOSITORY / "tests" / f"test_{name}.py").is_file() for name in ELSEWHERE.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_task_learns_one_batch_by_heart_and_moves_every_group(
    name: str, train: Train, compose: Compose
) -> None:
    overrides, steps = EXAMPLES[name]
    untrained, batch = first_batch(overrides, compose)

    trained = train(
        *overrides,
        "trainer.overfit=1",
        f"trainer.steps={steps}",
        "trainer.evaluate_every=1000",
        "schedule=constant",
        *(["optimizer.lr=0.02"] if name.endswith("classification") else []),
    )
    learned = load(trained.folder)

    assert trained.summary["steps"] == steps
    before, after = (evaluated(task, [batch]) for task in (untrained, learned))
    metric, least, most = MEASURES.get(name, ("loss", 10 * LOSS, LOSS))
    assert before.scalars[metric] > least
    assert after.scalars[metric] < most
    for group, parameters in learned.parameter_groups().items():
        started = untrained.parameter_groups()[group]
        moved = [not torch.equal(a, b) for a, b in zip(started, parameters, strict=True)]
        assert moved, group
        # Pixels that are blank in all of the batch leave their own weights alone, no tensor whole.
        assert all(moved), group


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_task_answers_for_each_example(name: str, compose: Compose) -> None:
    task, batch = first_batch(EXAMPLES[name][0], compose)

    with torch.inference_mode():
        said = answers(task.eval(), batch["input"])
        alone = answers(task, batch["input"][:1])

    assert len(said) == len(batch["input"])
    torch.testing.assert_close(alone, said[:1])
    shape = {
        "text_classification": (2,),
        "regression": (1,),
        "supervised": (1,),
        "adversarial": (),
        "reconstruction": (1, 8, 8),
        "variational": (1, 8, 8),
    }
    assert said.shape[1:] == shape.get(name, (10,))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_task_is_evaluated_by_a_metric_that_it_reports(name: str, compose: Compose) -> None:
    task, batch = first_batch(EXAMPLES[name][0], compose)
    asked: list[str] = []

    def optimize(loss: torch.Tensor, name: str = "model") -> None:
        assert loss.ndim == 0
        assert loss.requires_grad
        asked.append(name)

    metrics = task.train_step(batch, optimize)
    evaluation = evaluated(task, [batch])

    assert task.monitor.name in evaluation.scalars
    # Tokens an example are what throughput is counted in: no metric of an evaluation.
    assert set(metrics) - {"tokens"} <= set(evaluation.scalars)
    assert set(asked) == set(task.parameter_groups())
    for value in metrics.values():
        assert value.ndim == 0
        assert not value.requires_grad


def test_what_improves_is_decided_by_the_monitor() -> None:
    lower, higher = Task.monitor, Classification.monitor
    nan = float("nan")

    assert lower.better(1.0, 2.0)
    assert not lower.better(2.0, 1.0)
    assert higher.better(2.0, 1.0)
    assert not higher.better(1.0, 2.0)
    for monitor in (lower, higher):
        assert monitor.better(1.0, None)
        assert not monitor.better(1.0, 1.0)
        assert not monitor.better(nan, None)
        assert not monitor.better(nan, 1.0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_an_impossible_label_smoothing_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        Classification(torch.nn.Linear(1, 2), classes("ab", 1), label_smoothing=fraction)


class Renaming(Classification):
    """Its steps call the loss otherwise than its evaluation does."""

    def training_metrics(self, loss: Tensor, logits: Tensor, targets: Tensor) -> Metrics:
        return {"cost": loss.detach()}


def test_a_step_may_name_its_metrics_otherwise_than_an_evaluation() -> None:
    torch.manual_seed(0)
    task = Renaming(torch.nn.Linear(3, 2), classes("ab", 3))
    batch = {"input": torch.randn(8, 3), "target": torch.arange(8) % 2}

    told = task.train_step(batch, lambda loss, name="model": None)
    scalars = evaluated(task, [batch]).scalars

    assert set(told) == {"cost"}
    assert {"loss", "accuracy"} <= set(scalars)
    assert scalars["loss"] == pytest.approx(float(told["cost"]))


def test_a_class_is_predicted_with_its_probabilities() -> None:
    torch.manual_seed(0)
    task = Classification(torch.nn.Linear(3, 4), classes(["n", "e", "s", "w"], 3)).eval()
    inputs = torch.randn(5, 3)

    said = task.predict({"input": inputs})

    probabilities = said.columns["probability"]
    torch.testing.assert_close(probabilities, answers(task, inputs).softmax(1).detach())
    assert torch.equal(said.columns["class"], probabilities.argmax(1))
    assert not probabilities.requires_grad
    names = ("n", "e", "s", "w")
    assert said.fields == {
        "class": Field((), "class", size=4, names=names),
        "probability": Field((4,), "number", names=names),
    }


def test_classes_without_names_are_numbered() -> None:
    unnamed = Field((), "class", "target", size=3)
    spec = DataSpec({"input": Field((2,), "number", "input"), "target": unnamed})
    task = Classification(torch.nn.Linear(2, 3), spec)
    batch = {"input": torch.randn(4, 2), "target": torch.tensor([0, 1, 2, 2])}

    rows = evaluated(task, [batch]).tables["per_class"].rows
    assert [row[0] for row in rows] == ["0", "1", "2"]


def test_a_number_is_predicted_in_the_unit_of_the_data() -> None:
    torch.manual_seed(0)
    model, inputs = torch.nn.Linear(3, 1), torch.randn(5, 3)
    task = Regression(model, numbers(3, unit=(100.0, 20.0))).eval()

    said = task.predict({"input": inputs})

    expected = (model(inputs).double() * 20 + 100).detach()
    torch.testing.assert_close(said.columns["prediction"], expected)
    torch.testing.assert_close(answers(task, inputs).detach(), said.columns["prediction"])
    assert said.fields["prediction"].shape == (1,)


def test_numbers_of_several_units_are_refused() -> None:
    target = Field((2,), "number", "target", mean=(0.0, 1.0), std=(1.0, 2.0))
    spec = DataSpec({"input": Field((3,), "number", "input"), "target": target})
    with pytest.raises(ValueError, match="one mean and one std"):
        Regression(torch.nn.Linear(3, 2), spec)


@pytest.mark.parametrize("spec", [classes("abc", 2), numbers(2, outputs=3, unit=(5.0, 2.0))])
def test_supervised_is_the_task_that_fits_the_data(spec: DataSpec) -> None:
    torch.manual_seed(0)
    kind = Classification if spec.class_names else Regression
    plain, either = (made(torch.nn.Linear(2, 3), spec) for made in (kind, Supervised))
    either.task.load_state_dict(plain.state_dict())
    target = torch.tensor([0, 1, 2]) if spec.class_names else torch.randn(3, 3)
    batch = {"input": torch.randn(3, 2), "target": target}

    steps = [task.train_step(batch, lambda loss, name="model": None) for task in (plain, either)]
    assert steps[0] == steps[1]
    assert torch.equal(answers(plain, batch["input"]), answers(either, batch["input"]))
    one, other = (evaluated(task, [batch], final=True) for task in (plain, either))
    assert one.scalars == other.scalars
    assert set(one.figures) == set(other.figures)
    said, also = plain.predict(batch), either.predict(batch)
    assert said.fields == also.fields
    assert all(torch.equal(said.columns[name], also.columns[name]) for name in said.columns)
    assert (either.monitor, either.replayable) == (plain.monitor, plain.replayable)


def test_supervised_hands_phases_and_training_state_on(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Supervised(torch.nn.Linear(2, 3), classes("abc", 2))
    told: list[object] = []
    monkeypatch.setattr(task.task, "enter", told.append)
    monkeypatch.setattr(task.task, "training_state", lambda: {"seen": 3})
    monkeypatch.setattr(task.task, "load_training_state", told.append)
    phase = Phase("fit", 5)

    task.enter(phase)
    task.load_training_state({"seen": 2})

    assert told == [phase, {"seen": 2}]
    assert task.training_state() == {"seen": 3}
    assert task.parameter_groups() == task.task.parameter_groups()


def test_a_run_can_be_loaded_and_asked_again(train: Train, tmp_path: Path) -> None:
    trained = train("model=linreg", "data=line")
    task = load("latest", output_dir=str(tmp_path / "outputs"))

    assert isinstance(task, Predicts)
    said = task.predict({"input": torch.tensor([[1.0], [2.0], [3.0], [4.0], [10.0]])})

    assert trained.summary["status"] == "finished"
    assert not task.training
    predictions = said.columns["prediction"].flatten().tolist()
    assert predictions == pytest.approx([2, 4, 6, 8, 20], abs=1e-3)
