"""torchvision's classifiers: the parameters of their papers, on any images and classes."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dltrain.config.build import OWN_PACKAGES, plan
from dltrain.contracts.data import DataSpec, Field
from dltrain.models.vision.torchvision_networks import ResNet18, TorchvisionClassifier
from tests.conftest import Cli
from tests.making import image_spec
from tests.test_models import count, layer_counts, layers, names


def stage(before: int, after: int) -> list[int]:
    """Parameters of two blocks of two 3x3 convolutions with batch norm; a 1x1 where it widens."""
    norm = 2 * after
    wide = [9 * before * after, norm, 9 * after * after, norm]
    shortcut = [before * after, norm] if before != after else []
    return [*wide, *shortcut, *[9 * after * after, norm] * 2]


@pytest.mark.parametrize(
    ("shape", "classes", "stem", "total"),
    [
        ((3, 32, 32), 10, 64 * 3 * 3 * 3, 11_173_962),
        ((1, 28, 28), 10, 64 * 3 * 3 * 1, 11_172_810),
        ((3, 224, 224), 1000, 64 * 7 * 7 * 3, 11_689_512),
    ],
)
def test_resnet18_has_the_parameters_of_its_layers(
    shape: tuple[int, int, int], classes: int, stem: int, total: int
) -> None:
    model = ResNet18(shape, classes)
    stages = [*stage(64, 64), *stage(64, 128), *stage(128, 256), *stage(256, 512)]

    assert layer_counts(model) == [stem, 2 * 64, *stages, classes * (512 + 1)]
    assert count(model) == total


@pytest.mark.parametrize(
    ("side", "first_stage"), [(1, 1), (8, 8), (32, 32), (63, 63), (64, 16), (96, 24)]
)
def test_resnet18_shrinks_only_large_images_before_its_first_stage(
    side: int, first_stage: int
) -> None:
    model = ResNet18((5, side, side), 7).eval()
    seen: list[torch.Size] = []
    model.network.layer1.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))

    with torch.inference_mode():
        assert model(torch.randn(2, 5, side, side)).shape == (2, 7)

    assert seen == [(2, 64, first_stage, first_stage)]


@pytest.mark.parametrize("side", [32, 96])
def test_the_stem_of_resnet18_begins_like_the_rest_of_it(side: int) -> None:
    torch.manual_seed(0)
    stem = layers(ResNet18((3, side, side), 10), nn.Conv2d)[0]
    fan_out = 64 * stem.kernel_size[0] ** 2

    assert float(stem.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


# One of each family, but for those that take seconds to build.
FAMILIES = [
    "mnasnet0_5",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "squeezenet1_1",
]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_classifier_takes_any_channels_and_classes(name: str) -> None:
    model = TorchvisionClassifier(name, (2, 48, 48), 7)

    assert model.training
    assert layers(model, nn.Conv2d)[0].in_channels == 2
    assert model(torch.randn(2, 2, 48, 48)).shape == (2, 7)


def test_where_nothing_is_to_be_adapted_the_network_is_torchvisions() -> None:
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(0)
    own = TorchvisionClassifier("mobilenet_v3_small", (3, 64, 64), 1000)
    torch.manual_seed(0)
    theirs = mobilenet_v3_small()

    assert names(own) == names(theirs)
    pairs = zip(own.parameters(), theirs.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert count(own) == 2_542_856


def test_a_network_for_one_size_is_built_for_the_images_size() -> None:
    model = TorchvisionClassifier("vit_b_32", (1, 64, 64), 3)

    # Four patches and the class token have a position each.
    assert model.network.encoder.pos_embedding.shape == (1, 2 * 2 + 1, 768)
    assert model.eval()(torch.randn(2, 1, 64, 64)).shape == (2, 3)


def test_auxiliary_classifiers_are_left_out() -> None:
    model = TorchvisionClassifier("googlenet", (3, 64, 64), 5)

    assert model.network.aux1 is None
    assert model.train()(torch.randn(2, 3, 64, 64)).shape == (2, 5)


def test_trying_the_sizes_leaves_the_statistics_untouched() -> None:
    model = TorchvisionClassifier("mobilenet_v3_small", (1, 28, 28), 10)

    for norm in layers(model, nn.BatchNorm2d):
        assert int(norm.num_batches_tracked) == 0
        assert not norm.running_mean.any()


@pytest.mark.parametrize(
    ("name", "shape", "told"),
    [
        ("resnet81", (3, 32, 32), "Did you mean 'resnet18'?"),
        ("zzzz", (3, 32, 32), "There are alexnet, convnext_base"),
        ("fasterrcnn_resnet50_fpn", (3, 32, 32), "no classifier"),
        ("alexnet", (1, 28, 28), "alexnet cannot read images of 1x28x28"),
        ("vit_b_32", (3, 48, 48), "vit_b_32 cannot read images of 3x48x48"),
        ("resnet18", (784,), "(784,)"),
    ],
)
def test_what_torchvision_does_not_have_or_cannot_read_is_refused(
    name: str, shape: tuple[int, ...], told: str
) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the words are compared below
        TorchvisionClassifier(name, shape, 10)
    assert told in str(raised.value)


def test_a_mistyped_name_is_one_line_of_help(typed: Cli) -> None:
    done = typed("model=torchvision", "model.name=resnet81")

    assert done.returncode == 2
    assert "model.name: torchvision has no classifier 'resnet81'. Did you mean" in done.stderr
    assert "Traceback" not in done.stderr


def test_torchvision_is_imported_by_nothing_before_a_network_is_built() -> None:
    module = "dltrain.models.vision.torchvision_networks"
    lines = f"import sys, {module}; print('torchvision' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_parts_can_be_frozen() -> None:
    model = ResNet18((1, 8, 8), 10, freeze=["network.layer1", "network.bn1"])
    other = TorchvisionClassifier("squeezenet1_1", (1, 48, 48), 10, freeze=["network.features"])

    assert not any(p.requires_grad for p in model.network.layer1.parameters())
    assert not model.train().network.bn1.training
    assert model.network.layer2.training
    trained = [name for name, p in other.named_parameters() if p.requires_grad]
    assert trained == ["network.classifier.1.weight", "network.classifier.1.bias"]


def saved(folder: Path, weights: dict[str, torch.Tensor]) -> str:
    torch.save(weights, folder / "weights.pth")
    return str(folder / "weights.pth")


def torchvisions(name: str, folder: Path, **settings: Any) -> tuple[nn.Module, str]:
    """Its network of that name, with random weights, and a file of them."""
    from torchvision import models

    torch.manual_seed(0)
    theirs = models.get_model(name, **settings).eval()
    return theirs, saved(folder, theirs.state_dict())


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "squeezenet1_1"])
def test_pretrained_weights_make_torchvisions_network(name: str, tmp_path: Path) -> None:
    theirs, file = torchvisions(name, tmp_path)
    images = torch.randn(1, 3, 64, 64)

    own = TorchvisionClassifier(name, (3, 64, 64), 1000, pretrained=file).eval()

    with torch.inference_mode():
        torch.testing.assert_close(own(images), theirs(images))


def test_with_other_classes_the_last_layer_begins_anew_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, file = torchvisions("shufflenet_v2_x0_5", tmp_path)
    torch.manual_seed(1)

    with caplog.at_level(logging.INFO, "dltrain"):
        own = TorchvisionClassifier("shufflenet_v2_x0_5", (3, 64, 64), 7, file)

    assert "fc.weight (7x1024, there 1000x1024), fc.bias (7, there 1000)." in caplog.text
    assert "pretrained: 336 of 338 tensors are those of" in caplog.text
    mine, others = own.network.state_dict(), theirs.state_dict()
    taken = {name for name in mine if mine[name].shape == others[name].shape}
    assert mine.keys() - taken == {"fc.weight", "fc.bias"}
    assert all(torch.equal(mine[name], others[name]) for name in taken)


def test_an_auxiliary_classifier_is_left_out_and_pixels_are_normalized_as_its_weights_ask(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, file = torchvisions("googlenet", tmp_path, init_weights=False)
    theirs.transform_input = True  # as torchvision does with its weights
    images = torch.randn(1, 3, 64, 64)

    with caplog.at_level(logging.INFO, "dltrain"):
        own = TorchvisionClassifier("googlenet", (3, 64, 64), 1000, file).eval()

    assert "not used: 20 tensors of parts that are left out." in caplog.text
    with torch.inference_mode():
        torch.testing.assert_close(own(images), theirs(images))


@pytest.mark.parametrize(
    ("shape", "change", "told"),
    [
        ((1, 64, 64), {}, "data.channels=3"),
        ((3, 32, 32), {}, "conv1.weight is 64x3x7x7"),
        ((3, 64, 64), {"layer1.2.conv1.weight": torch.zeros(1)}, "no layer1.2.conv1.weight"),
        ((3, 64, 64), {"fc.bias": None}, "it lacks fc.bias"),
        ((3, 64, 64), {"fc.weight": torch.zeros(1000, 4)}, "fc.weight is 1000x4"),
        ((3, 64, 64), {"bn1.num_batches_tracked": None}, ""),  # files of old have no such counts
    ],
)
def test_a_file_of_another_network_is_refused(
    shape: tuple[int, int, int], change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    from torchvision.models import resnet18

    weights = {**resnet18().state_dict(), **change}
    file = saved(tmp_path, {n: w for n, w in weights.items() if w is not None})
    if not told:
        ResNet18(shape, 5, pretrained=file)
        return
    with pytest.raises(ValueError, match=re.escape(told)):
        ResNet18(shape, 5, pretrained=file)


def test_without_a_network_it_is_told_what_to_fetch_and_where_to_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("torch.hub.urlopen", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="no network") as raised:
        ResNet18((3, 64, 64), 5, pretrained=True)
    place = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    for part in ("https://download.pytorch.org/models/", str(place), "model.pretrained=FILE"):
        assert part in str(raised.value)


def test_a_run_in_the_place_of_a_file_is_told_of_init_from(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"init_from={tmp_path}"):
        ResNet18((3, 64, 64), 5, pretrained=str(tmp_path))


@pytest.mark.parametrize(
    ("mean", "std", "warned"),
    [
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False),
        ([0.5], [0.25], True),
        ([0.485, 0.456, 0.406], [0.25], True),
    ],
)
def test_pixels_that_are_normalized_otherwise_are_told(
    mean: list[float],
    std: list[float],
    warned: bool,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, file = torchvisions("squeezenet1_1", tmp_path)
    image = Field((3, 64, 64), "image", "input", mean=tuple(mean), std=tuple(std))
    TorchvisionClassifier("squeezenet1_1", (3, 64, 64), 2, file, spec=DataSpec({"input": image}))

    told = "data.mean=[0.485,0.456,0.406] data.std=[0.229,0.224,0.225]"
    assert (told in caplog.text) == warned


def test_a_run_does_not_need_what_it_began_with(tmp_path: Path) -> None:
    _, file = torchvisions("squeezenet1_1", tmp_path)
    Path(file).unlink()
    node = {
        "_target_": "dltrain.models.vision.torchvision_networks.TorchvisionClassifier",
        "name": "squeezenet1_1",
        "pretrained": file,
    }
    spec = image_spec((3, 64, 64), ["ant", "bee"])

    with pytest.raises(ValueError, match="there is no file"):
        plan(node, nn.Module, "model", spec=spec).make()
    # As the config of a run is read: its weights lie in its checkpoint.
    plan(node, nn.Module, "model", {}, OWN_PACKAGES, spec).make()
