"""Rates of their own for parts of a network, from patterns of names to the optimizer's groups."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.contracts.run import Group
from dltrain.errors import ConfigError
from dltrain.optim.optimizers import make_optimizer
from dltrain.optim.patterns import PatternError, named_by
from dltrain.optim.regularizers import L2
from tests.asking import assembled
from tests.conftest import Compose
from tests.test_adversarial_runs import optimize_of


def network() -> nn.Module:
    """As a task has it: all names begin with ``model.net.``."""
    net = nn.ModuleDict(
        {
            "stem": nn.Conv2d(3, 4, 3),
            "blocks": nn.ModuleList(
                nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4)) for _ in range(3)
            ),
            "fc": nn.Linear(4, 2),
        }
    )
    return nn.ModuleDict({"model": nn.ModuleDict({"net": net})})


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("fc", {"fc.weight", "fc.bias"}),
        ("net.fc.bias", {"fc.bias"}),
        ("model.net.fc.bias", {"fc.bias"}),
        ("blocks.1.1", {"blocks.1.1.weight", "blocks.1.1.bias"}),
        ("blocks.[12].0.weight", {"blocks.1.0.weight", "blocks.2.0.weight"}),
        ("*.0.bias", {"blocks.0.0.bias", "blocks.1.0.bias", "blocks.2.0.bias"}),
    ],
)
def test_a_pattern_names_modules_with_all_in_them_and_parameters(
    pattern: str, found: set[str]
) -> None:
    task = network()
    names = {p: n.removeprefix("model.net.") for n, p in task.named_parameters()}

    assert {names[p] for p in named_by([pattern], task)[pattern]} == found


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("block.1", "Did you mean 'blocks.1'?"),
        ("fcc", "Did you mean 'fc'?"),
        ("f", "Did you mean 'fc'?"),  # the beginning of a name is no name
        ("zzzz*", "There are stem, blocks, fc."),
    ],
)
def test_a_pattern_of_nothing_is_refused_with_what_there_is(pattern: str, hint: str) -> None:
    with pytest.raises(PatternError, match=re.escape(hint)):
        named_by([pattern], network())


def test_every_parameter_has_the_rate_and_decay_of_the_last_pattern_that_names_it() -> None:
    task = network()
    parameters = list(task.parameters())
    group = Group(parameters, [p for p in parameters if p.ndim > 1])
    own: dict[str, Any] = {
        "blocks": {"lr": 0.2},
        "blocks.1": {"lr": 0.3, "weight_decay": 0.5},
        "fc": {"weight_decay": 0.0},
    }
    settings = {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.01}

    optimizer, left = make_optimizer(
        settings, own, named_by(own, task), group, [L2(0.1)], torch.device("cpu")
    )

    assert left == [] or all(type(one) is L2 for one in left)
    of = {p: g for g in optimizer.param_groups for p in g["params"]}
    assert len(of) == len(parameters) == sum(len(g["params"]) for g in optimizer.param_groups)
    for name, parameter in task.named_parameters():
        name = name.removeprefix("model.net.")
        rate = {"blocks.1": 0.3, "blocks.0": 0.2, "blocks.2": 0.2}.get(name[:8], 0.1)
        decay = 0.5 if name.startswith("blocks.1") else 0.0 if name.startswith("fc") else 0.01
        assert of[parameter]["lr"] == rate, name
        # The penalty of L2 joins each; biases and norms have neither.
        expected = decay + 0.1 if parameter.ndim > 1 else 0.0
        assert of[parameter]["weight_decay"] == pytest.approx(expected), name


def test_the_schedule_scales_every_rate_and_each_is_logged(compose: Compose) -> None:
    config = compose("device=cpu", "optimizer.groups={classifier:{lr:0.5},features.0:{lr:0.02}}")
    optimize = optimize_of(config)

    optimize.set_multiplier(0.5)

    assert optimize.learning_rates() == pytest.approx(
        {"model": config["optimizer"]["lr"] / 2, "model/classifier": 0.25, "model/features.0": 0.01}
    )


@pytest.mark.parametrize(
    ("groups", "faults"),
    [
        ({"clasifier": {"lr": 1.0}}, ["clasifier: the network has no such part. Did you mean"]),
        ({"classifier": {"lrr": 1.0}}, ["classifier.lrr: Adam has no such argument. Did you"]),
        ({"classifier": {"lr": -1.0}}, ["classifier.lr must be >= 0, got -1"]),
        ({"classifier": 3}, ["classifier: expected a mapping, got 3."]),
        (
            {"classifier.1": {"lr": 1.0}, "classifier": {"lr": 2.0}},
            ["classifier.1: the patterns after it name all that it names."],
        ),
        (
            {"zzz": {"lr": 1.0}, "qqq": {"lr": "fast"}},
            ["zzz: the network has", "qqq: the network has", "qqq.lr: expected a number"],
        ),
    ],
)
def test_what_is_wrong_with_groups_is_told_by_its_key(
    groups: Any, faults: list[str], compose: Compose
) -> None:
    config = compose("device=cpu", "callbacks=none")
    config["optimizer"]["groups"] = groups

    with pytest.raises(ConfigError) as raised:
        assembled(config)

    told = [str(fault) for fault in raised.value.faults]
    assert len(told) == len(faults)
    expected = [f"optimizer.groups.{fault}" for fault in faults]
    assert all(any(fault in line for line in told) for fault in expected), told


def test_names_are_checked_where_only_the_data_tells_the_network(compose: Compose) -> None:
    config = compose("device=cpu", "callbacks=none", "data=toy_reviews", "model=lstm")
    config["optimizer"] |= {"groups": {"heed": {"lr": 1.0}}, "modle": {"lr": 1.0}}

    with pytest.raises(ConfigError) as raised:
        assembled(config)

    keys = {fault.key for fault in raised.value.faults}
    assert keys == {"optimizer.groups.heed", "optimizer.modle"}


def test_what_is_frozen_has_no_rate(compose: Compose) -> None:
    config = compose("device=cpu", "callbacks=none", "model=alexnet_small", "model.padding=8")
    config["model"]["freeze"] = ["features"]
    config["optimizer"]["groups"] = {"features": {"lr": 1.0}}

    with pytest.raises(ConfigError, match=r"what it names is frozen. See model.freeze"):
        assembled(config)
