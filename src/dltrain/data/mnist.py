"""MNIST: 60,000 + 10,000 handwritten digits of 28x28 pixels (LeCun, Cortes and Burges 1998)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dltrain.data.download import Remote, fetch
from dltrain.data.idx import read_idx
from dltrain.data.pictures import PictureSource
from dltrain.errors import UserError
from dltrain.types import Batch

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# SHA-256 of the files as they are once unpacked.
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class Mnist(PictureSource):
    """The original files, read as they are.

    They are looked for in ``root``, ``root/MNIST/raw`` (where torchvision puts them) and
    ``root/raw``, plain or gzipped, and downloaded to ``root/MNIST/raw`` where missing.
    """

    input_shape = (1, 28, 28)
    class_names: Sequence[str] = tuple("0123456789")

    def __init__(
        self,
        root: str,
        mean: Sequence[float] = (0.1307,),
        std: Sequence[float] = (0.3081,),
        mirrors: Sequence[str] = MIRRORS,
        **common: Any,
    ) -> None:
        super().__init__(root=root, mean=mean, std=std, **common)
        self.folder = Path(root).expanduser()
        self.mirrors = mirrors

    def read(self) -> tuple[Batch, Batch]:
        """Find or fetch the four files."""
        return self._split_columns("train"), self._split_columns("t10k")

    def _split_columns(self, split: str) -> Batch:
        pictures = self._array(f"{split}-images-idx3-ubyte", (28, 28))
        labels = self._array(f"{split}-labels-idx1-ubyte", ())
        if len(pictures) != len(labels):
            raise UserError(
                f"data.root: {self.folder} holds {len(pictures):,} pictures but {len(labels):,} "
                f"labels for the split {split!r}. Delete its files to have them fetched anew."
            )
        return {"input": pictures[:, None], "target": labels.long()}

    def _array(self, name: str, item_shape: tuple[int, ...]) -> torch.Tensor:
        for folder in (self.folder / "MNIST" / "raw", self.folder / "raw", self.folder):
            for candidate in (folder / name, folder / f"{name}.gz"):
                if candidate.is_file():
                    return read_idx(candidate, item_shape)
        remote = Remote(
            urls=[f"{mirror.rstrip('/')}/{name}.gz" for mirror in self.mirrors],
            sha256=FILES[name],
            alternatives=(
                "Give a folder that has the file (plain or .gz) as data.root=DIR; "
                "or use data=digits, which needs no network."
            ),
        )
        return read_idx(fetch(remote, self.folder / "MNIST" / "raw" / name), item_shape)
