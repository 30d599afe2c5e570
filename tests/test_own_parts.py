"""What is told of a model or a data set of one's own that does not work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dltrain import training
from dltrain.config.build import plan
from dltrain.contracts.data import Source
from dltrain.errors import ConfigError, UserError
from tests.conftest import Compose

QUICK = ("data=digits", "trainer.steps=1", "callbacks=none", "device=cpu")
NETWORKS = """
import torch
from torch import nn


class Narrow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(64, 32), nn.Linear(16, 10)))

    def forward(self, images):
        return self.body(images)


class Misread(nn.Bilinear):
    def __init__(self) -> None:
        super().__init__(2, 3, 4, bias=False)

    def forward(self, images):
        return images.view(7, -1)


class Unfinished(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


class Few(nn.Sequential):
    def __init__(self, outputs: int = 3) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, outputs))


class OneByOne(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.Linear(64, 10))

    def forward(self, images):
        return super().forward(images.view(1, 1, 8, 8))
"""
SOURCE = """
from dltrain.contracts.data import Source


class Mine(Source):
    def read(self, seed):
        return None
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in ("own_networks", "own_source"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("network", "told", "place"),
    [
        (
            "Narrow",
            "model: its layer body.1.1 (Linear) fails: mat1 and mat2 shapes cannot be multiplied "
            "(1x32 and 16x10). Shapes, the batch first: input (1, 32); weight (10, 16); bias (10).",
            "line 12)",
        ),
        (
            "Misread",
            "model: Misread fails: shape '[7, -1]' is invalid for input of size 64. "
            "Shapes, the batch first: input (1, 1, 8, 8); weight (4, 2, 3).",
            "line 20)",
        ),
        ("Unfinished", 'Module [Unfinished] is missing the required "forward" function', ""),
        ("Few", "the task cannot learn from what Few gives: ", ""),
        ("OneByOne", "model: OneByOne fails: shape '[1, 1, 8, 8]' is invalid for input", ""),
    ],
)
def test_a_network_that_fails_names_the_layer_and_the_shapes(
    own: Path, compose: Compose, network: str, told: str, place: str
) -> None:
    (own / "own_networks.py").write_text(NETWORKS)
    config = compose("model=mlp", *QUICK) | {"model": {"_target_": f"own_networks.{network}"}}
    with pytest.raises(UserError) as error:
        training.train(config)
    assert told in str(error.value)
    assert str(error.value).endswith(place)
    assert str(error.value).count("\n") == 0
    assert (own / "outputs").exists() == (network in ("Few", "OneByOne"))


def test_a_bug_of_ours_keeps_its_traceback(
    own: Path, compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dltrain.models.mlp import MLP

    monkeypatch.setattr(MLP, "forward", lambda self, images: images.view(7, -1))
    with pytest.raises(RuntimeError, match="is invalid for input of size 64"):
        training.train(compose("model=mlp", *QUICK))


def test_an_abstract_source_names_the_methods_that_it_lacks(own: Path) -> None:
    (own / "own_source.py").write_text(SOURCE)
    with pytest.raises(ConfigError) as error:
        plan({"_target_": "own_source.Mine"}, Source, "data").make()
    told = str(error.value)
    assert told.startswith("data._target_: own_source.Mine is abstract: it lacks open(")
    assert "outline(self) -> 'DataSpec' of Source" in told
    assert "read" not in told.partition("outline")[0]
    assert told.endswith("own_source.py, line 5).")
    with pytest.raises(ConfigError, match="is abstract: name one of its subclasses"):
        plan({"_target_": "dltrain.contracts.data.Source"}, Source, "data").make()
