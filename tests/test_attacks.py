"""FGSM and PGD by hand, in evaluations, and in training."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.cli import dispatch
from dltrain.contracts.attack import AttackScores
from dltrain.contracts.data import Batch
from dltrain.core.evaluate import evaluate, noise_at
from dltrain.errors import ConfigError, UserError
from dltrain.inference.attacked import Attacked, attack_of, attacked
from dltrain.tasks.adversarial_training import AdversarialTraining
from dltrain.tasks.attacks import FGSM, PGD
from dltrain.tasks.classification import Classification
from dltrain.tasks.regression import Regression
from tests.asking import Given, classes, numbers, texts
from tests.conftest import Train

SPEC = classes("ab", 1, 2, 2, mean=(0.5,), std=(0.25,))


def linear() -> Classification:
    """Class b where the sum of the inputs is positive."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([[-1.0] * 4, [1.0] * 4]))
    return Classification(network, SPEC).eval()


def batch_of(count: int = 32) -> Batch:
    torch.manual_seed(0)
    inputs = (torch.rand(count, 1, 2, 2) - 0.5) / 0.25
    return {"input": inputs, "target": (inputs.flatten(1).sum(1) > 0).long()}


def pixels(inputs: Tensor) -> Tensor:
    return inputs * 0.25 + 0.5


def scores_of(task: Classification, batch: Batch) -> Any:
    def scores(inputs: Tensor) -> AttackScores:
        return task.attack_scores({**batch, "input": inputs})

    return scores


def test_fgsm_moves_every_pixel_by_epsilon_within_the_range() -> None:
    task, batch = linear(), batch_of()
    changed = FGSM(SPEC, 0.2).strongest(scores_of(task, batch), batch["input"], noise_at(0))

    sign = 1 - 2 * batch["target"].view(-1, 1, 1, 1)  # towards the other class
    by_hand = (pixels(batch["input"]) + 0.2 * sign).clamp(0, 1)
    torch.testing.assert_close(pixels(changed), by_hand)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ["perturbed", "strongest"])
def test_pgd_stays_within_epsilon_and_finds_the_edge(norm: Any, method: str) -> None:
    task, batch = linear(), batch_of()
    attack = PGD(SPEC, 0.1, steps=20, restarts=2, norm=norm)
    scores = scores_of(task, batch)
    generator = torch.Generator().manual_seed(0)

    changed = pixels(getattr(attack, method)(scores, batch["input"], generator))

    difference = (changed - pixels(batch["input"])).flatten(1)
    size = difference.abs().amax(1) if norm == "linf" else difference.norm(dim=1)
    assert size.max() <= 0.1 + 1e-5
    assert float(changed.min()) >= -1e-6
    assert float(changed.max()) <= 1 + 1e-6
    inside = ((changed > 0.01) & (changed < 0.99)).flatten(1).all(1)
    torch.testing.assert_close(size[inside], torch.full_like(size[inside], 0.1), atol=1e-3, rtol=0)


def test_of_all_that_was_tried_a_mistake_counts_before_any_loss() -> None:
    spec = classes("ab", 1)

    def scores(inputs: Tensor) -> AttackScores:
        """Wrong near 0.1 alone, where the loss is small; the loss rises from there."""
        value = inputs[:, 0]
        return AttackScores((value - 0.1).abs(), (value - 0.1).abs() < 0.02)

    clean = torch.tensor([[0.1], [0.5]])
    changed = PGD(spec, 0.3, steps=5).strongest(scores, clean, noise_at(0))

    assert changed[0].tolist() == pytest.approx([0.1]), "it was wrong before"
    assert changed[1].tolist() == pytest.approx([0.8]), "nowhere wrong: the highest loss"


def test_more_restarts_and_larger_epsilon_are_never_weaker() -> None:
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    task, batch = Classification(network, SPEC).eval(), batch_of(64)
    scores = scores_of(task, batch)

    def loss(restarts: int) -> Tensor:
        attack = PGD(SPEC, 0.1, steps=3, restarts=restarts)
        return scores(attack.strongest(scores, batch["input"], noise_at(0))).losses

    wrong = scores(batch["input"]).wrong
    assert bool((loss(3) >= loss(0) - 1e-6)[~wrong].all())
    same = [PGD(SPEC, 0.1).strongest(scores, batch["input"], noise_at(0)) for _ in range(2)]
    assert torch.equal(*same)


def test_an_epsilon_of_0_changes_nothing() -> None:
    task, batch = linear(), batch_of()
    for attack in (PGD(SPEC, 0.0), FGSM(SPEC, 0.0)):
        changed = attack.strongest(scores_of(task, batch), batch["input"], noise_at(0))
        torch.testing.assert_close(changed, batch["input"])


def test_an_evaluation_is_attacked_in_inference_mode() -> None:
    task = linear()
    stream = Given([batch_of(), batch_of(8)])
    attack = Attacked(stream, task, SPEC, PGD(SPEC, 0.5, steps=5))

    with torch.inference_mode():
        found = [
            evaluate(task, one, seed=0, epoch=0, final=True).scalars["accuracy"]
            for one in (stream, attack)
        ]

    assert found == [1.0, 0.0]
    assert all(p.grad is None for p in task.parameters())


def test_what_cannot_be_attacked_is_refused() -> None:
    with pytest.raises(ValueError, match="attacks change images and numbers"):
        PGD(texts(["", "a"], "ab"))
    spec = numbers(4)
    with pytest.raises(UserError, match="Regression has no loss of each example"):
        attacked(Given([]), Regression(nn.Linear(4, 1), spec), spec, {})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epsilon": -0.1}, "epsilon must be >= 0, got -0.1"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"step_size": 0.0}, "step_size must be above 0"),
        ({"restarts": -1}, "restarts must be >= 0"),
        ({"restarts": 1, "random_start": False}, "restarts would all begin alike"),
    ],
)
def test_impossible_attacks_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=r"^\w") as error:
        PGD(SPEC, **settings)

    assert says in str(error.value)


def test_what_is_typed_becomes_attacks() -> None:
    nodes, others, name = attack_of(
        ["attack=pgd", "data.limit=3", "attack.epsilon=[0,0.1]", "attack.steps=7"]
    )

    assert (name, others) == ("pgd", ["data.limit=3"])
    assert [(node["epsilon"], node["steps"]) for node in nodes] == [(0, 7), (0.1, 7)]
    assert attack_of(["data.limit=3"]) == ([], ["data.limit=3"], "")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["attack=pgdd"], "pgd"),
        (["attack=pgd", "attack.stepz=1"], "attack.stepz"),
        (["attack.steps=1"], "attack.steps: choose an attack first"),
    ],
)
def test_a_mistyped_attack_is_told_by_what_was_typed(typed: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as error:
        attack_of(typed)

    assert says in str(error.value)
    assert "task" not in str(error.value)


def test_training_learns_what_the_attack_makes_of_a_batch() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    task, batch = AdversarialTraining(network, SPEC, FGSM(SPEC, 0.1), clean=0.25), batch_of()
    losses: list[Any] = []
    task.train_step(batch, lambda loss, name="model", weight=None: losses.append(loss))

    scores = scores_of(task, batch)
    changed = FGSM(SPEC, 0.1).perturbed(scores, batch["input"])
    by_hand = 0.75 * scores(changed).losses.mean() + 0.25 * scores(batch["input"]).losses.mean()

    torch.testing.assert_close(losses[0], by_hand)
    with pytest.raises(ValueError, match="clean is a fraction"):
        AdversarialTraining(network, SPEC, clean=1.0)


def test_changes_grow_over_the_first_steps_and_go_on_growing_when_resumed() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    settings: dict[str, Any] = {"attack": FGSM(SPEC, 0.1), "warmup_steps": 4}
    task, batch = AdversarialTraining(network, SPEC, **settings), batch_of()
    scores = scores_of(task, batch)
    changed = FGSM(SPEC, 0.1).perturbed(scores, batch["input"])
    losses: list[Any] = []

    def optimize(loss: Tensor, name: str = "model", weight: Any = None) -> None:
        losses.append(loss.detach())

    for number in range(6):
        if number == 3:
            state = task.training_state()
            task = AdversarialTraining(network, SPEC, **settings)
            task.load_training_state(state)
        task.train_step(batch, optimize)

    for loss, size in zip(losses, (0.25, 0.5, 0.75, 1, 1, 1), strict=True):
        inputs = torch.lerp(batch["input"], changed, size)
        torch.testing.assert_close(loss, scores(inputs).losses.mean().detach())


def test_a_run_is_trained_and_evaluated_under_attack(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(
        *("data=digits", "data.limit=200", "model=logreg", "trainer.epochs=2"),
        *("task=adversarial_training", "task/attack=pgd", "task.attack.steps=2"),
        "task.attack.epsilon=0.05",
    ).folder

    typed = ["attack=pgd", "attack.epsilon=[0,0.1]", "attack.steps=3"]
    assert dispatch(["evaluate", str(run), *typed]) == 0

    out = capsys.readouterr().out
    place = run / "evaluations" / "test-pgd"
    written = json.loads((place / "metrics.json").read_text())
    assert "under pgd: steps 3, step_size null" in out
    clean, robust = (one["metrics"]["accuracy"] for one in written["attack"]["each"])
    assert clean > robust
    assert (place / "figures" / "robustness.png").stat().st_size > 5_000
    assert (place / "tables" / "robustness.csv").read_text().startswith("epsilon,")
