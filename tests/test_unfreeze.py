"""Gradual unfreezing: what is frozen stays to the bit, what joins is trained, and when."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.core.update import Optimize
from dltrain.models.vision.transfer import Freezable
from dltrain.optim.groups import groups_of
from dltrain.optim.modifiers import MaxNorm
from dltrain.optim.optimizers import make_optimizer
from dltrain.optim.unfreeze import Unfreeze
from dltrain.tasks.classification import Classification
from tests.asking import classes
from tests.test_modifiers import game


@dataclass
class At:
    """How far a run of ten steps is; five of them are an epoch."""

    step: int
    max_steps: int = 10
    epoch: int = 0
    steps_per_epoch: int | None = 5
    samples: int = 0
    samples_per_second: float = 0.0


class Net(Freezable):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Linear(4, 8), nn.BatchNorm1d(8)
        self.body = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.drop, self.fc = nn.Dropout(0.5), nn.Linear(8, 3)
        self.token = nn.Parameter(torch.ones(8))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.fc(self.drop(self.body(self.norm(self.stem(inputs)) * self.token)))


def task_of(network: nn.Module | None = None) -> Classification:
    torch.manual_seed(0)
    return Classification(network or Net(), classes("abc", 4))


def attached(task: Classification, **settings: Any) -> Unfreeze:
    one = Unfreeze(**settings)
    one.attach(task)
    return one


def trained(task: nn.Module) -> set[str]:
    return {n.removeprefix("model.") for n, p in task.named_parameters() if p.requires_grad}


def moved(state: Mapping[str, Any]) -> bool:
    """Whether an optimizer has ever stepped a parameter: Adagrad has its sums from the start."""
    return bool(state) and float(state.get("step", 1)) > 0


PARTS = {
    "fc": {"fc.weight", "fc.bias"},
    "body": {f"body.{i}.{kind}" for i in (0, 1) for kind in ("weight", "bias")},
    "rest": {"stem.weight", "stem.bias", "norm.weight", "norm.bias", "token"},
}


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        ({}, (0, 5, 10)),
        ({"epochs": 0.4}, (0, 2, 4)),
        ({"epochs": [0.2, 1.4]}, (0, 1, 7)),
        ({"steps": 3}, (0, 3, 6)),
        ({"steps": [1, 9], "parts": ["fc", "body", ["stem", "norm", "token"]]}, (0, 1, 9)),
        ({"steps": [1, 9], "parts": ["fc", "bod?", "*"]}, (0, 1, 9)),
    ],
)
def test_parts_join_from_the_head_down_at_their_steps(
    settings: dict[str, Any], starts: tuple[int, ...]
) -> None:
    task = task_of()
    one = attached(task, **settings)
    assert trained(task) == set.union(*PARTS.values()), "a task that is only used is not frozen"
    for step in range(10):
        one.before_step(At(step))
        joined = [part for part, start in zip(PARTS.values(), starts, strict=True) if start <= step]
        assert trained(task) == set.union(*joined), step


def test_a_run_that_goes_on_is_where_it_was() -> None:
    task = task_of()
    attached(task, steps=3).before_step(At(4))

    assert trained(task) == PARTS["fc"] | PARTS["body"]


@pytest.mark.parametrize(
    "settings",
    [
        {"_target_": "torch.optim.SGD"},
        {"_target_": "torch.optim.SGD", "momentum": 0.9},
        {"_target_": "torch.optim.SGD", "momentum": 0.9, "nesterov": True},
        {"_target_": "torch.optim.AdamW"},
        {"_target_": "torch.optim.Adam"},
        {"_target_": "torch.optim.RMSprop", "momentum": 0.9},
        {"_target_": "torch.optim.Adagrad"},
        {"_target_": "dltrain.optim.muon.Muon"},
    ],
)
def test_what_is_frozen_stays_to_the_bit_and_has_no_optimizer_state(
    settings: dict[str, Any],
) -> None:
    task = task_of()
    one = attached(task, steps=2, parts=["fc", "body"])
    groups, limit = groups_of(task), MaxNorm(0.01)
    limit.start(groups)
    settings = {"lr": 0.1, "weight_decay": 0.1, **settings}
    cpu = torch.device("cpu")
    made, _ = make_optimizer(settings, {}, {}, groups["model"], [], cpu, [one])
    optimize = Optimize({"model": made}, groups, {}, "cpu", modifiers=[limit])
    batch = {"input": torch.randn(16, 4), "target": torch.arange(16) % 3}
    task.train()
    for step in range(4):
        before = {n: v.clone() for n, v in task.state_dict().items()}
        one.before_step(At(step))
        task.train_step(batch, optimize)
        task.eval()
        task.train()  # as an evaluation leaves it
        changed = {n for n, v in task.state_dict().items() if not torch.equal(v, before[n])}
        joined = ("fc",) if step < 2 else ("fc", "body")
        assert {name.split(".")[1] for name in changed} == {*joined}, step
        assert ("model.body.1.running_mean" in changed) == (step >= 2)
        parameters = {n: p for n, p in task.named_parameters() if n.split(".")[1] not in joined}
        assert not any(moved(made.state.get(p, {})) for p in parameters.values())
    # Never named: frozen throughout.
    assert int(task.model.norm.num_batches_tracked) == 0  # type: ignore[arg-type, union-attr]


def test_frozen_parts_are_in_eval_mode_and_the_head_has_its_dropout() -> None:
    task = task_of()
    one = attached(task)
    task.train()
    one.before_step(At(0))
    modes = {name: module.training for name, module in task.model.named_modules()}
    assert {name for name, mode in modes.items() if mode} == {"", "drop", "fc"}
    one.before_step(At(5))
    modes = {name: module.training for name, module in task.model.named_modules()}
    assert {name for name, mode in modes.items() if not mode} == {"stem", "norm"}


def test_what_the_model_froze_is_never_unfrozen() -> None:
    network = Net()
    network.freeze(["stem"])
    task = task_of(network)
    one = attached(task, steps=1)
    one.before_step(At(9))
    assert trained(task) == set.union(*PARTS.values()) - {"stem.weight", "stem.bias"}
    assert not network.stem.training
    with pytest.raises(ValueError, match="'stem' names is frozen by the model"):
        attached(task, parts=["fc", "stem"])


def test_a_part_that_would_come_too_late_is_told(caplog: pytest.LogCaptureFixture) -> None:
    one = attached(task_of(), epochs=1)
    with caplog.at_level(logging.INFO, "dltrain"):
        one.before_step(At(0))
    assert "from step 10 on, and the run has 10" in caplog.text
    assert "unfreeze: trained are model.fc: 27 weights." in caplog.text


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"parts": ["fc", "boddy"]},
            "parts: the network has no part 'boddy'. Did you mean 'body'?",
        ),
        ({"parts": ["fc", "body", "body.0"]}, "parts: all that 'body.0' names is"),
        ({"parts": ["fc"]}, "parts are two or more"),
        ({"parts": ["fc", []]}, "parts are two or more"),
        ({"epochs": 0}, "epochs are positive, and rise; got 0"),
        ({"steps": [4, 4]}, "steps are positive, and rise; got [4, 4]"),
        ({"epochs": [1]}, "epochs are one number, or one for each of the 2 parts after"),
    ],
)
def test_parts_and_times_that_cannot_be_are_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        attached(task_of(), **settings)


def test_no_group_may_be_without_anything_to_train() -> None:
    one = Unfreeze(parts=["discriminator", "generator"])
    with pytest.raises(ValueError, match="nothing of 'generator'"):
        one.attach(game())


def test_one_of_two_networks_may_be_partly_frozen() -> None:
    task = game()
    one = Unfreeze(parts=["*.bias", "*"], steps=5)
    one.attach(task)
    groups = groups_of(task)
    made = {name: torch.optim.SGD(group.parameters, lr=0.1) for name, group in groups.items()}
    before = {n: p.clone() for n, p in task.named_parameters()}
    task.train()
    one.before_step(At(0))
    batch = {"input": torch.randn(8, 1, 4, 4), "target": torch.zeros(8, dtype=torch.long)}
    task.train_step(batch, Optimize(made, groups, {}, "cpu"))
    changed = {n for n, p in task.named_parameters() if not torch.equal(p, before[n])}
    assert changed
    assert all(name.endswith("bias") for name in changed)
