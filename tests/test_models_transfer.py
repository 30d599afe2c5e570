"""Weights from elsewhere, and parts that are kept: AlexNet stands for every network that can."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.models.vision import transfer
from dltrain.models.vision.alexnet import AlexNet
from dltrain.models.vision.transfer import read_torchvision
from dltrain.runs.load import load
from dltrain.tasks.classification import Classification
from tests.asking import assembled, classes
from tests.conftest import Compose, Train
from tests.test_models import layers
from tests.test_models_alexnet import IMAGENET, TINY

COLUMN: dict[str, Any] = {
    "channels": [64, 192, 384, 256, 256],
    "groups": 1,
    "response_norm": False,
    "unit_biases": False,
}


@pytest.fixture(scope="module")
def torchvisions(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """torchvision's AlexNet, with random weights, and a file of them."""
    from torchvision.models import alexnet

    torch.manual_seed(0)
    model = alexnet().eval()
    path = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(model.state_dict(), path)
    return model, path


def test_torchvisions_weights_make_torchvisions_network(
    torchvisions: tuple[nn.Module, Path],
) -> None:
    theirs, path = torchvisions
    images = torch.randn(2, 3, 224, 224)

    own = AlexNet(**IMAGENET, **COLUMN, pretrained=str(path)).eval()

    with torch.inference_mode():
        torch.testing.assert_close(own(images), theirs(images))


def test_with_other_classes_only_the_last_layer_begins_anew(
    torchvisions: tuple[nn.Module, Path],
) -> None:
    theirs, path = torchvisions

    own = AlexNet((3, 224, 224), 7, **COLUMN, pretrained=str(path))

    pairs = zip(own.parameters(), theirs.parameters(), strict=True)
    same = [a.shape == b.shape and torch.equal(a, b) for a, b in pairs]
    assert same == [True] * 14 + [False] * 2


def test_weights_come_from_torchs_cache_or_one_message_says_how_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="no network") as raised:
        AlexNet(**TINY, pretrained=True)
    assert "model.pretrained=FILE" in str(raised.value)
    assert "alexnet-owt" in str(raised.value)

    cached = {"weight": torch.arange(3.0)}
    torch.save(cached, tmp_path / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth")

    assert torch.equal(read_torchvision("alexnet", True)["weight"], cached["weight"])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({**IMAGENET, "groups": 2}, "192x32x5x5"),
        ({**IMAGENET, "input_shape": (3, 128, 128)}, "4096x9216"),
        ({**IMAGENET, "batch_norm": True}, "16 tensors"),
    ],
)
def test_weights_of_another_shape_are_refused(
    settings: dict[str, Any], told: str, torchvisions: tuple[nn.Module, Path]
) -> None:
    with pytest.raises(ValueError, match="alexnet_one_column") as raised, torch.device("meta"):
        AlexNet(**{**COLUMN, **settings}, pretrained=str(torchvisions[1]))
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no file"),
        (b"", "no file of torch's weights"),
        (b"not weights", "no file of torch's weights"),
        ([1, 2], "something else"),
        ({"epoch": 3}, "something else"),
    ],
)
def test_files_that_hold_no_weights_are_refused(content: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)

    with pytest.raises(ValueError, match=told) as raised:
        AlexNet(**TINY, pretrained=str(path))
    assert str(path) in str(raised.value)


SMALL = ("model=alexnet_small", "data=digits", "model.padding=8", "trainer.steps=6")


@pytest.mark.parametrize(
    "decay",
    [
        ("optimizer=sgd", "optimizer.weight_decay=0.1"),
        ("optimizer=adamw", "optimizer.weight_decay=0.1", "regularizer=[l2,max_norm]"),
    ],
)
def test_frozen_parts_keep_weights_and_statistics_to_the_bit(
    decay: tuple[str, ...], train: Train, compose: Compose
) -> None:
    choices = (*SMALL, *decay, "model.freeze=[features]", "trainer.evaluate_every=100")
    if len(decay) > 2:
        choices = (*choices, "modifiers.max_norm.limit=0.1")
    begun = assembled(compose("callbacks=none", "device=cpu", *choices)).task.state_dict()

    learned = load(train(*choices).folder).state_dict()

    frozen = [name for name in begun if name.startswith("model.features.")]
    assert len([name for name in frozen if name.endswith("running_mean")]) == 5
    assert all(torch.equal(begun[name], learned[name]) for name in frozen)
    trained = [name for name in begun if name not in frozen]
    assert len(trained) == 6
    assert not any(torch.equal(begun[name], learned[name]) for name in trained)


def test_frozen_parts_stay_in_evaluation_while_the_rest_trains() -> None:
    model = AlexNet(**TINY, batch_norm=True, freeze=["features", "classifier.3"])

    model.train()

    assert not any(layer.training for layer in layers(model, nn.BatchNorm2d))
    assert [layer.training for layer in layers(model, nn.Dropout)] == [False, True]
    assert not any(module.training for module in model.eval().modules())


def test_frozen_parameters_are_not_optimized() -> None:
    model = AlexNet(**TINY, freeze=["features"])
    task = Classification(model, classes("0123456789", 3, 224, 224))

    assert task.parameter_groups() == {"model": list(model.classifier.parameters())}


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["feature"], "Did you mean 'features'?"),
        (["qqqqqq"], "There are features, classifier."),
        (["features", "classifier"], "nothing of the network is left"),
    ],
)
def test_what_cannot_be_frozen_is_refused(names: list[str], told: str) -> None:
    with pytest.raises(ValueError, match="freeze") as raised:
        AlexNet(**TINY, freeze=names)
    assert told in str(raised.value)


def test_a_download_that_failed_is_not_tried_again_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from torchvision.models import ResNet50_Weights

    tried = []

    def get(self: object, **given: object) -> None:
        tried.append(self)
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(ResNet50_Weights, "get_state_dict", get)
    for _ in range(3):
        with pytest.raises(ValueError, match=r"resnet50.* could not be downloaded \(no network\)"):
            read_torchvision("resnet50", True)
    assert len(tried) == 1
    monkeypatch.setattr(transfer, "AGAIN", 0.0)
    with pytest.raises(ValueError, match="could not be downloaded"):
        read_torchvision("resnet50", True)
    assert len(tried) == 2
