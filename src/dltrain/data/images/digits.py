"""1,797 real handwritten digits of 8x8 pixels, bundled with scikit-learn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from dltrain.data.images.source import ImageSource
from dltrain.data.streams.in_memory import InMemory, Split

TEST_EXAMPLES = 360
SPLIT_SEED = 0


class Digits(ImageSource):
    """Optical recognition of handwritten digits (Alpaydin and Kaynak 1998, UCI), no network needed.

    scikit-learn bundles no split, so a fixed one is made: 360 images, the same ones whatever
    the run's seed, are the test split. Pixel values 0 to 16 are stretched to 0 to 255.
    """

    input_shape = (1, 8, 8)
    class_names = tuple("0123456789")

    def __init__(
        self, mean: Sequence[float] = (0.305,), std: Sequence[float] = (0.376,), **common: Any
    ) -> None:
        super().__init__(mean=mean, std=std, **common)

    def splits(self) -> dict[str, Split]:
        from sklearn.datasets import load_digits

        bundled = load_digits()
        images = torch.from_numpy(bundled.images).mul_(255 / 16).round_().to(torch.uint8)
        whole = InMemory({"input": images[:, None], "target": torch.from_numpy(bundled.target)})
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
        test, train = order[:TEST_EXAMPLES], order[TEST_EXAMPLES:]
        return {"train": whole.only(train), "test": whole.only(test)}
