"""Weights to begin with: those of another run or file that fit, and what is told of the rest."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from torch import nn

from dltrain.contracts.data import DataSpec
from dltrain.errors import UserError
from dltrain.models.vision.torchvision_networks import ResNet18
from dltrain.runs.init_from import init_from
from dltrain.runs.load import load
from dltrain.tasks.classification import Classification
from dltrain.tasks.supervised import Supervised
from tests.asking import classes
from tests.conftest import Train

NOTHING = DataSpec({})


def network(outputs: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, outputs))


def saved(tmp_path: Path, content: object) -> str:
    torch.save(content, tmp_path / "weights.pt")
    return str(tmp_path / "weights.pt")


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", [Classification, Supervised])
def test_tensors_of_the_same_name_and_shape_are_taken(
    kind: type, deep: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, spec = network(7), classes("abc", 4)
    weights = {**theirs.state_dict(), "head.weight": torch.zeros(2, 3)}
    task = kind(network(), spec)
    before = {name: value.clone() for name, value in task.state_dict().items()}

    with caplog.at_level(logging.INFO, "dltrain"):
        init_from(task, spec, saved(tmp_path, {"model": weights} if deep else weights), tmp_path)

    prefix = "task.model." if kind is Supervised else "model."
    for name, value in task.state_dict().items():
        there = weights[name.removeprefix(prefix)]
        assert torch.equal(value, there if value.shape == there.shape else before[name])
    assert "7 of 9 tensors" in caplog.text
    assert f"{prefix}2.weight (3x5, there 7x5)" in caplog.text
    assert "1 tensors of" in caplog.text
    assert "have no counterpart here: head.weight (2x3)." in caplog.text


def test_a_beginning_that_is_here_or_there_alone_is_left_out(tmp_path: Path) -> None:
    plain = Classification(network(), classes("abc", 4))
    wrapped = Supervised(network(), classes("abc", 4))
    init_from(plain, NOTHING, saved(tmp_path, wrapped.state_dict()), tmp_path)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, wrapped.state_dict()[f"task.{name}"])


def test_weights_of_torchvision_fit_its_network(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    theirs = resnet18(num_classes=5)
    with torch.no_grad():
        theirs.layer4[1].bn2.weight.fill_(0.25)
    own = ResNet18((3, 64, 64), 2)
    init_from(own, NOTHING, saved(tmp_path, theirs.state_dict()), tmp_path)
    assert torch.equal(own.network.layer1[0].conv1.weight, theirs.layer1[0].conv1.weight)
    assert float(own.network.layer4[1].bn2.weight.detach().mean()) == 0.25


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"other": torch.zeros(2)}, "no tensor of .* it has other; here there are 0.weight"),
        ([1, 2], "something else than tensors"),
    ],
)
def test_what_fits_nowhere_is_refused(content: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        init_from(network(), NOTHING, saved(tmp_path, content), tmp_path)


def test_a_file_that_is_none_and_a_run_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(UserError, match="no file of torch's weights"):
        init_from(network(), NOTHING, str(tmp_path / "text"), tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        init_from(network(), NOTHING, "nowhere", tmp_path)


def test_a_run_begins_where_another_ended_and_needs_it_no_more(
    train: Train, caplog: pytest.LogCaptureFixture
) -> None:
    small = ("model=mlp", "model.hidden=[8]", "data=iris", "trainer.steps=2")
    first = train(*small, "seed=1")
    second = train(*small, f"init_from={first.folder}", "optimizer.lr=0")

    for name, value in load(second.folder).state_dict().items():
        assert torch.equal(value, load(first.folder).state_dict()[name])
    log = (second.folder / "train.log").read_text()
    assert f"init_from: 4 of 4 tensors are those of {first.folder}." in log
