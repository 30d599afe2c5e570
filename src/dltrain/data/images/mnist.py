"""MNIST (LeCun, Cortes and Burges 1998) and what comes in its files: 60,000 + 10,000 of 28x28."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dltrain.contracts.paths import FilePath
from dltrain.data.cache import CannotKeepError
from dltrain.data.download import Remote, fetch
from dltrain.data.images.idx import plain, read_idx
from dltrain.data.images.source import ImageSource
from dltrain.data.streams.in_memory import InMemory, Split
from dltrain.errors import UserError

ALTERNATIVES = (
    "Give a folder that has the file (plain or .gz) as data.root=DIR; "
    "or use data=digits, which needs no network."
)

SHAPE = (1, 28, 28)


class IdxImages(ImageSource):
    """28x28 gray images of ten classes in MNIST's four files.

    They are looked for in ``root``, ``root/<folder>/raw`` (where torchvision puts them) and
    ``root/raw``, plain or gzipped, and downloaded to ``root/<folder>/raw`` where missing.
    """

    input_shape = SHAPE
    folder_name: str

    def __init__(self, root: FilePath, mirrors: Sequence[str], **common: Any) -> None:
        super().__init__(root=root, **common)
        self.folder = Path(root).expanduser()
        self.mirrors = mirrors

    @abstractmethod
    def remote(self, name: str) -> tuple[str, Remote]:
        """Under which name to keep the file ``name``, and where to get it."""

    def splits(self) -> dict[str, Split]:
        return {"train": self._split("train"), "test": self._split("t10k")}

    def _split(self, split: str) -> Split:
        images = self._array(f"{split}-images-idx3-ubyte", SHAPE[1:])
        labels = self._array(f"{split}-labels-idx1-ubyte", ())
        if len(images) != len(labels):
            raise UserError(
                f"data.root: {self.folder} holds {len(images):,} images but {len(labels):,} "
                f"labels for the split {split!r}. Delete its files to have them fetched anew."
            )
        return InMemory({"input": images[:, None], "target": labels.long()})

    def _array(self, name: str, item_shape: tuple[int, ...]) -> torch.Tensor:
        own = self.folder / self.folder_name / "raw"
        for folder in (own, self.folder / "raw", self.folder):
            for candidate in (folder / name, folder / f"{name}.gz"):
                if candidate.is_file():
                    return self._read(candidate, item_shape)
        kept_as, remote = self.remote(name)
        return self._read(fetch(remote, own / kept_as), item_shape)

    def _read(self, path: Path, item_shape: tuple[int, ...]) -> torch.Tensor:
        try:
            return read_idx(plain(path, self.folder / "cache"), item_shape)
        except CannotKeepError:  # then it is unpacked each time
            return read_idx(path, item_shape)

    def urls(self, name: str) -> list[str]:
        """Where the mirrors have a file."""
        return [f"{mirror.rstrip('/')}/{name}.gz" for mirror in self.mirrors]


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


class Mnist(IdxImages):
    """Handwritten digits, the original files."""

    class_names = tuple("0123456789")
    folder_name = "MNIST"

    def __init__(
        self,
        root: FilePath,
        mean: Sequence[float] = (0.1307,),
        std: Sequence[float] = (0.3081,),
        mirrors: Sequence[str] = MIRRORS,
        **common: Any,
    ) -> None:
        super().__init__(root=root, mean=mean, std=std, mirrors=mirrors, **common)

    def remote(self, name: str) -> tuple[str, Remote]:
        return name, Remote(self.urls(name), FILES[name], ALTERNATIVES)


FASHION_MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
# MD5 of the packed files, as the data set's own page gives them.
FASHION_FILES = {
    "train-images-idx3-ubyte": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "bb300cfdad3c16e7a12a480ee83cd310",
}


class FashionMnist(IdxImages):
    """Images of clothes (Xiao, Rasul and Vollgraf 2017), made to replace MNIST's."""

    class_names = (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )
    folder_name = "FashionMNIST"

    def __init__(
        self,
        root: FilePath,
        mean: Sequence[float] = (0.2860,),
        std: Sequence[float] = (0.3530,),
        mirrors: Sequence[str] = FASHION_MIRRORS,
        **common: Any,
    ) -> None:
        super().__init__(root=root, mean=mean, std=std, mirrors=mirrors, **common)

    def remote(self, name: str) -> tuple[str, Remote]:
        """Kept packed, as their checksums are."""
        remote = Remote(self.urls(name), md5=FASHION_FILES[name], alternatives=ALTERNATIVES)
        return f"{name}.gz", remote
