"""The perceptron rule: what a pencil gives, step by step, and what it can and cannot learn."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dltrain import training as run
from dltrain.contracts.data import Batch, Placement
from dltrain.core.update import Optimize
from dltrain.models.linear import LinearClassifier
from dltrain.optim.groups import groups_of
from dltrain.tasks.perceptron import Perceptron, perceptron_criterion
from tests.asking import answers, assembled, classes, evaluated
from tests.conftest import Cli, Compose

CORNERS = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
GATES = {"and": [0, 0, 0, 1], "or": [0, 1, 1, 1], "nand": [1, 1, 1, 0], "xor": [0, 1, 1, 0]}


def learner(features: int, count: int) -> tuple[Perceptron, Optimize]:
    names = [str(number) for number in range(count)]
    task = Perceptron(LinearClassifier((features,), count), classes(names, features))
    parameters = list(task.parameters())
    sgd = torch.optim.SGD(parameters, lr=1.0)
    return task, Optimize({"model": sgd}, groups_of(task), {}, "cpu")


def weights(task: Perceptron) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in task.parameters()]


def batches(inputs: Tensor, targets: Tensor, size: int) -> list[Batch]:
    return [
        {"input": x, "target": t}
        for x, t in zip(inputs.split(size), targets.split(size), strict=True)
    ]


def epochs_to_learn(gate: str, size: int, limit: int) -> int | None:
    """Epochs after which every corner is right; None if ``limit`` do not suffice."""
    task, optimize = learner(2, 2)
    targets = torch.tensor(GATES[gate])
    for epoch in range(limit):
        if evaluated(task, batches(CORNERS, targets, 4)).scalars["accuracy"] == 1:
            return epoch
        for batch in batches(CORNERS, targets, size):
            task.train_step(batch, optimize)
    return None


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("gate", ["and", "or", "nand"])
def test_it_learns_what_a_line_divides_in_finitely_many_steps(gate: str, size: int) -> None:
    assert epochs_to_learn(gate, size, limit=50) is not None


@pytest.mark.parametrize("size", [1, 4])
def test_it_never_learns_xor(size: int) -> None:
    assert epochs_to_learn("xor", size, limit=100) is None


def test_what_is_learned_is_left_alone() -> None:
    task, optimize = learner(2, 2)
    targets = torch.tensor(GATES["and"])
    for batch in batches(CORNERS, targets, 1) * 50:
        task.train_step(batch, optimize)
    learned = weights(task)

    metrics = task.train_step({"input": CORNERS, "target": targets}, optimize)

    assert float(metrics["loss"]) == 0
    assert float(metrics["accuracy"]) == 1
    assert any(bool(w.any()) for w in learned)
    assert all(torch.equal(a, b) for a, b in zip(learned, weights(task), strict=True))


def test_two_classes_are_taught_by_adding_and_subtracting_inputs() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(60, 3), torch.randint(0, 2, (60,))
    task, optimize = learner(3, 2)
    w, b = torch.zeros(3), torch.zeros(())
    mistakes = 0

    for x, target in zip(inputs, targets, strict=True):
        task.train_step({"input": x[None], "target": target[None]}, optimize)
        sign = 1 if target == 1 else -1
        if (w @ x + b > 0) != (sign > 0):
            mistakes += 1
            w, b = w + sign * x, b + sign

        torch.testing.assert_close(weights(task), [w[None], b[None]])
    assert 5 < mistakes < 55


def test_a_batch_adds_up_the_corrections_of_its_mistakes() -> None:
    task, optimize = learner(2, 2)
    inputs = torch.tensor([[1.0, 2.0], [3.0, -1.0], [5.0, 5.0]])

    # At zero weights all are taken for class 0, which is wrong of the first two.
    metrics = task.train_step({"input": inputs, "target": torch.tensor([1, 1, 0])}, optimize)

    assert float(metrics["accuracy"]) == pytest.approx(1 / 3)
    torch.testing.assert_close(weights(task), [torch.tensor([[4.0, 1.0]]), torch.tensor([2.0])])


def test_several_classes_are_taught_by_the_multi_class_rule() -> None:
    torch.manual_seed(0)
    inputs, targets = torch.randn(80, 4), torch.randint(0, 3, (80,))
    task, optimize = learner(4, 3)
    w, b = torch.zeros(3, 4), torch.zeros(3)

    for x, target in zip(inputs, targets, strict=True):
        task.train_step({"input": x[None], "target": target[None]}, optimize)
        guess = int((w @ x + b).argmax())
        if guess != target:
            w[target] += x
            w[guess] -= x
            b[target] += 1
            b[guess] -= 1

    torch.testing.assert_close(weights(task), [w, b])
    assert w.any()


def test_the_criterion_is_the_distance_to_the_right_answer_over_the_misclassified() -> None:
    # s = 2, -3, 0.5 and -1 against t = +1, +1, -1, -1: the second and third are wrong.
    scores = torch.tensor([[0.0, 2.0], [0.0, -3.0], [0.0, 0.5], [0.0, -1.0]])

    criterion = perceptron_criterion(scores, torch.tensor([1, 1, 0, 0]))

    assert float(criterion) == 3 + 0.5


def test_a_split_is_evaluated_exactly_however_it_is_cut() -> None:
    torch.manual_seed(0)
    task, _ = learner(4, 3)
    torch.nn.init.normal_(task.model.get_parameter("linear.weight"))
    inputs, targets = torch.randn(7, 4), torch.randint(0, 3, (7,))
    task.requires_grad_(False)
    scores = answers(task, inputs)
    loss = sum(float(s.max() - s[t]) for s, t in zip(scores, targets, strict=True)) / 7

    for size in (7, 3, 1):
        scalars = evaluated(task, batches(inputs, targets, size)).scalars
        assert scalars["loss"] == pytest.approx(loss, rel=1e-5)
        assert scalars["accuracy"] == pytest.approx(float((scores.argmax(1) == targets).sum()) / 7)
        assert {"precision", "recall", "f1"} <= set(scalars)


def test_the_models_file_brings_the_task_and_the_rule_whatever_the_data(compose: Compose) -> None:
    config = compose("model=perceptron", "data=digits")

    assert config["task"]["_target_"] == "dltrain.tasks.perceptron.Perceptron"
    assert config["optimizer"] == {
        "_target_": "torch.optim.SGD",
        "lr": 1.0,
        "weight_decay": 0.0,
        "groups": None,
    }
    assert config["schedule"]["_target_"].endswith("Constant")


def test_a_run_teaches_digits(compose: Compose, tmp_path: Path) -> None:
    config = compose("model=perceptron", "data=digits", "callbacks=none", "trainer.epochs=8")
    summary = run.train({**config, "device": "cpu", "output_dir": str(tmp_path)})

    assert summary["parameters"] == 10 * (64 + 1)
    assert summary["test"]["accuracy"] > 0.85


def test_its_decision_boundary_names_the_features_of_the_data(compose: Compose) -> None:
    parts = assembled(compose("model=perceptron", "data=gates", "device=cpu"))
    corners = parts.source.open(Placement(parts.settings.device, seed=0))["test"]
    axes = evaluated(parts.task, corners.plain()).figures["decision_boundary"]().axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("a", "b")


def test_a_score_is_no_probability() -> None:
    task, _ = learner(4, 3)
    torch.nn.init.normal_(task.model.get_parameter("linear.weight"))
    batch = {"input": torch.randn(5, 4)}
    said = task.predict(batch)
    assert set(said.columns) == set(said.fields) == {"class", "score"}
    torch.testing.assert_close(said.columns["score"], answers(task, batch["input"]).detach())
    assert torch.equal(said.columns["class"], said.columns["score"].argmax(1))
    assert evaluated(task, [batch | {"target": torch.zeros(5, dtype=torch.int64)}]).texts == {}


@pytest.mark.parametrize("outputs", [1, 0])
def test_fewer_than_two_classes_are_refused(outputs: int) -> None:
    with pytest.raises(ValueError, match="classes"):
        LinearClassifier((2,), outputs)


def test_two_classes_share_one_score() -> None:
    model = LinearClassifier((2, 3), 2, init="normal")
    inputs = torch.randn(5, 2, 3)
    weight, bias = model.parameters()

    logits = model(inputs)

    assert (weight.shape, bias.shape) == ((1, 6), (1,))
    assert not logits[:, 0].any()
    torch.testing.assert_close(logits[:, 1:], inputs.flatten(1) @ weight.T + bias)
    odds = logits.softmax(1)
    torch.testing.assert_close(odds[:, 1], torch.sigmoid(logits[:, 1]))


def test_more_classes_have_a_score_each() -> None:
    for count, features in itertools.product((3, 10), (4, 784)):
        model = LinearClassifier((features,), count)
        assert sum(p.numel() for p in model.parameters()) == count * (features + 1)
        assert model(torch.randn(2, features)).shape == (2, count)


def test_mixed_targets_are_refused_in_one_line(typed: Cli) -> None:
    told = typed("model=perceptron", "data=digits", "data.augment.mixup=0.5", "trainer.steps=3")
    assert told.returncode == 2
    assert told.stderr.strip().splitlines()[-1] == (
        "dltrain: the perceptron rule knows one class an example: no data.augment.mixup or cutmix"
    )
