"""Pruning: which weights, when, under averages, in logs and checkpoints."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.contracts.run import evaluation_weights
from dltrain.optim.groups import groups_of
from dltrain.optim.modifiers import EMA
from dltrain.optim.pruning import Prune
from dltrain.runs.load import load
from dltrain.tasks.classification import Classification
from tests.asking import classes
from tests.conftest import Train


def task_of(*layers: nn.Module) -> Classification:
    torch.manual_seed(0)
    network = layers or (nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 3))
    return Classification(nn.Sequential(*network), classes("abc", 4))


def begun(task: Classification, **settings: Any) -> Prune:
    prune = Prune(**settings)
    prune.attach(task)
    prune.start(groups_of(task))
    return prune


def at(prune: Prune, step: int, steps: int = 100) -> float:
    prune.before_step(SimpleNamespace(step=step, max_steps=steps))
    return prune.scalars()["sparsity"]


def weights(task: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in task.parameters() if p.ndim > 1]


def test_the_smallest_of_all_weights_are_pruned_and_no_bias() -> None:
    task = task_of()
    before, biases = weights(task), [p.clone() for p in task.parameters() if p.ndim == 1]
    prune = begun(task, sparsity=0.8, begin=0.5, end=0.5)

    assert at(prune, 49) == 0
    assert not prune.settled
    assert at(prune, 50) == pytest.approx(0.8)
    assert prune.settled

    threshold = torch.cat([w.flatten() for w in before]).abs().sort().values[55]
    for old, new in zip(before, weights(task), strict=True):
        assert torch.equal(new, old.where(old.abs() > threshold, 0))
    assert all(map(torch.equal, biases, [p for p in task.parameters() if p.ndim == 1]))


def test_each_layer_loses_the_same_fraction_where_it_is_asked_for() -> None:
    task = task_of(nn.Linear(4, 10), nn.Linear(10, 3))
    with torch.no_grad():
        task.model[1].weight.mul_(100)
    at(begun(task, sparsity=0.7, begin=0, end=0, scope="layer"), 0)

    assert [int((w != 0).sum()) for w in weights(task)] == [12, 9]


def test_what_is_not_named_stays() -> None:
    task = task_of()
    at(begun(task, sparsity=0.5, begin=0, end=0, parts=["2"]), 0)

    assert [int((w != 0).sum()) for w in weights(task)] == [40, 15]


def test_sparsity_rises_along_the_cubic_and_never_falls() -> None:
    prune = begun(task_of(), sparsity=0.8, begin=0.2, end=0.6, every=10)
    found = {step: at(prune, step) for step in range(0, 100, 5)}

    assert found[15] == 0
    assert found[35] == found[30] == pytest.approx(0.8 * (1 - 0.75**3), abs=0.01)
    assert found[60] == found[95] == pytest.approx(0.8, abs=0.01)
    assert at(prune, 40, 1000) == found[95], "a longer run unprunes nothing"


def test_a_run_that_ends_with_the_last_pruning_is_pruned() -> None:
    prune = begun(task_of(), sparsity=0.5, begin=1.0, end=1.0)

    assert at(prune, 99) == pytest.approx(0.5, abs=0.01)


def test_pruned_weights_stay_0_and_equal_ones_are_pruned_in_order() -> None:
    task = task_of(nn.Linear(4, 3))
    with torch.no_grad():
        task.model[0].weight.fill_(1.0)
    prune = begun(task, sparsity=0.5, begin=0, end=0)
    at(prune, 0)
    with torch.no_grad():
        task.model[0].weight.add_(1.0)
    prune.after_update("model")

    assert weights(task)[0].flatten().tolist() == [0.0] * 6 + [2.0] * 6


@pytest.mark.parametrize("prune_first", [True, False])
def test_averages_are_pruned_whatever_the_order(prune_first: bool) -> None:
    task = task_of()
    ema, prune = EMA(0.9), begun(task, sparsity=0.5, begin=0, end=0)
    ema.attach(task)
    ema.start(groups_of(task))
    ema.after_update("model")
    at(prune, 0)
    ema.after_update("model")
    trained = weights(task)

    with evaluation_weights([prune, ema] if prune_first else [ema, prune]):
        inside = weights(task)

    for now, averaged, back in zip(trained, inside, weights(task), strict=True):
        assert torch.equal(now == 0, averaged == 0)
        assert torch.equal(now, back)


def test_masks_go_through_a_state() -> None:
    task, other = task_of(), task_of()
    prune, again = begun(task, begin=0, end=0), begun(other)
    at(prune, 0)
    again.load_state_dict(prune.state_dict())

    assert again.scalars() == prune.scalars()
    assert again.settled
    with again.evaluation_weights():
        assert all(map(torch.equal, weights(task), weights(other)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sparsity": 1.0}, "sparsity is a fraction above 0 and below 1, got 1.0"),
        ({"begin": 0.5, "end": 0.4}, "begin and end are fractions of the run"),
        ({"every": 0}, "every must be at least 1, got 0"),
        ({"parts": []}, "parts are one or more; null prunes every weight"),
        ({"parts": ["9"]}, "parts: the network has no part '9'"),
        ({"parts": ["0.bias"]}, "parts: all that '0.bias' names is frozen, a bias or a norm"),
    ],
)
def test_what_cannot_be_pruned_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=r"^\w") as error:
        begun(task_of(), **settings)

    assert says in str(error.value)


def test_an_emptied_layer_is_told(caplog: pytest.LogCaptureFixture) -> None:
    task = task_of(nn.Linear(4, 10), nn.Linear(10, 3))
    with torch.no_grad():
        task.model[1].weight.mul_(1e-6)
    with caplog.at_level("INFO"):
        at(begun(task, sparsity=0.6, begin=0, end=0), 0)

    assert "28 of 70 weights are left" in caplog.text
    assert "nothing is left of 1.weight" in caplog.text


def test_a_run_tells_its_sparsity_and_its_best_weights_are_pruned(train: Train) -> None:
    run = train(
        *("data=iris", "model=mlp", "model.hidden=[16]", "modifier=[prune,ema]"),
        *("trainer.epochs=6", "trainer.test_weights=best", "modifiers.prune.every=1"),
        "modifiers.prune.end=0.8",
    )

    assert run.summary["test"]["sparsity"] == pytest.approx(0.9, abs=0.01)
    kept = weights(load(run.folder))
    count = sum(w.numel() for w in kept)
    assert sum(int((w != 0).sum()) for w in kept) == count - round(0.9 * count)
    rows = (run.folder / "metrics.csv").read_text().splitlines()
    splits = {row.split(",")[2] for row in rows if ",sparsity," in row}
    assert splits == {"steps", "train", "validation", "test"}
