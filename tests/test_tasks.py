"""Tasks: each learns one batch by heart, by moving everything it was given to move."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dltrain import run
from dltrain.tasks.classification import Classification
from dltrain.types import Batch, Evaluation, Task
from tests.conftest import REPOSITORY, Compose, Train
from tests.making import evaluated

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
    # Of binarised pictures there is always something that nobody can know.
    "variational": (
        [
            *("model=vae", "model.hidden=[64]", "data=digits", "data.batch_size=16"),
            *("model.decoder=gaussian", "task.binarise=none", "task.importance_samples=0"),
            "optimizer.lr=3e-3",
        ],
        200,
    ),
    # At the file's own zero weights the perceptron criterion is 0 before anything is learnt.
    "perceptron": (
        ["model=perceptron", "model.init=xavier", "data=digits", "data.batch_size=16"],
        60,
    ),
}
LOSS = 0.02


def evaluation_of(task: Task, batch: Batch) -> Evaluation:
    """By the contract that the task keeps."""
    if task.metrics(False):
        return evaluated(task, batch)
    with torch.inference_mode():
        return task.eval().evaluate([batch])


# Where no loss tells what was learnt, what does: at least so much before, at most after.
MEASURES = {
    "adversarial": ("sliced_wasserstein", 0.3, 0.15),
    "reconstruction": ("mse", 0.1, 0.005),
    "variational": ("reconstruction", 200.0, 0.0),
}


def first_batch(overrides: list[str], compose: Compose) -> tuple[Task, Batch]:
    """A task as it begins, and the batch that an overfitting run of it trains on."""
    parts = run.assemble(compose("callbacks=none", "device=cpu", *overrides))
    loaders = parts.source.loaders(parts.device, seed=0)
    loaders.train.set_epoch(0)
    return parts.task, next(iter(loaders.train))


def test_every_task_has_its_example_here() -> None:
    files = {path.stem for path in (REPOSITORY / "configs" / "task").glob("*.yaml")}

    assert files - {"none"} == set(EXAMPLES)


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
    learned = run.load(trained.folder)

    assert trained.summary["steps"] == steps
    before, after = (evaluation_of(task, batch) for task in (untrained, learned))
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
        task.eval()
        inputs = batch["input"], batch["input"][:1]
        answers, alone = (next(iter(task.forward({"input": some}).values())) for some in inputs)

    assert len(answers) == len(batch["input"])
    torch.testing.assert_close(alone, answers[:1])
    shape = {
        "text_classification": (2,),
        "regression": (1,),
        "supervised": (1,),
        "adversarial": (),
        "reconstruction": (1, 8, 8),
        "variational": (1, 8, 8),
    }
    assert answers.shape[1:] == shape.get(name, (10,))


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_task_is_judged_by_a_metric_that_it_reports(name: str, compose: Compose) -> None:
    task, batch = first_batch(EXAMPLES[name][0], compose)
    asked: list[str] = []

    def optimize(loss: torch.Tensor, name: str = "model") -> None:
        assert loss.ndim == 0
        assert loss.requires_grad
        asked.append(name)

    metrics = task.train_step(batch, optimize)
    evaluation = evaluation_of(task, batch)

    assert task.monitor.name in evaluation.scalars
    assert set(metrics) <= set(evaluation.scalars)
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


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_label_smoothing_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        Classification(torch.nn.Linear(1, 2), ["a", "b"], label_smoothing=share)


def test_a_run_can_be_loaded_and_asked_again(train: Train, tmp_path: Path) -> None:
    trained = train("model=linreg", "data=line")
    task = run.load("latest", output_dir=str(tmp_path / "outputs"))

    with torch.no_grad():
        answers = task.predict({"input": torch.tensor([[1.0], [2.0], [3.0], [4.0], [10.0]])})

    assert trained.summary["status"] == "finished"
    assert not task.training
    assert answers.flatten().tolist() == pytest.approx([2, 4, 6, 8, 20], abs=1e-3)
