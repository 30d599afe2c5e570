"""CIFAR-10: 50,000 + 10,000 color images of 32x32 pixels (Krizhevsky 2009)."""

from __future__ import annotations

import gzip
import io
import pickle
import tarfile
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch

from dltrain.contracts.paths import FilePath
from dltrain.data.download import Remote, fetch
from dltrain.data.images.source import ImageSource
from dltrain.data.streams.in_memory import InMemory, Split
from dltrain.errors import UserError
from dltrain.files import open_file, read_bytes
from dltrain.tensor_files import require_short_pickle

BINARY = "cifar-10-binary.tar.gz"
PYTHON = "cifar-10-python.tar.gz"
MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
"""Of the binary archive, as its page gives it."""
TRAIN = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST = ("test_batch",)
LARGEST, WHOLE = 1 << 25, 240 << 20
"""Bytes of a batch, which has 30 million, and of an unpacked archive, which has 185."""
MEMBERS = 100
"""Of an archive, which has 8 or 10, that are looked at."""
SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32


class Cifar10(ImageSource):
    """The original batches, in either of the forms that they are published in.

    Looked for in ``root``: the unpacked folders ``cifar-10-batches-bin`` and
    ``cifar-10-batches-py`` (where torchvision puts it), then the archives themselves, which need
    no unpacking. Where there is none, the binary archive is downloaded.
    """

    input_shape = SHAPE
    class_names = (
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    )

    def __init__(
        self,
        root: FilePath,
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2470, 0.2435, 0.2616),
        mirrors: Sequence[str] = MIRRORS,
        **common: Any,
    ) -> None:
        super().__init__(root=root, mean=mean, std=std, **common)
        self.folder = Path(root).expanduser()
        self.mirrors = mirrors

    def splits(self) -> dict[str, Split]:
        for folder, suffix, parse in (
            ("cifar-10-batches-bin", ".bin", parse_binary),
            ("cifar-10-batches-py", "", parse_python),
        ):
            path = self.folder / folder
            if path.is_dir():
                names = [name + suffix for name in TRAIN + TEST]
                there = [name for name in names if (path / name).is_file()]
                contents = {name: read_bytes(path / name, LARGEST) for name in there}
                return self._parsed(path, contents, suffix, parse)
        if (self.folder / PYTHON).is_file():
            return self._from_archive(self.folder / PYTHON, "", parse_python)
        remote = Remote(
            urls=[f"{mirror.rstrip('/')}/{BINARY}" for mirror in self.mirrors],
            md5=MD5,
            alternatives=(
                f"Give a folder that has {BINARY} or {PYTHON} as data.root=DIR; or use a copy of "
                "the hub: data=hub data.path=cifar10 data.image=img data.label=label."
            ),
        )
        return self._from_archive(fetch(remote, self.folder / BINARY), ".bin", parse_binary)

    def _from_archive(self, path: Path, suffix: str, parse: Parse) -> dict[str, Split]:
        try:
            # In one go, and no further than such an archive is long: its table of contents is
            # spread over it, and may say anything.
            with (
                open_file(path, "rb") as packed,
                _Limited(fileobj=packed) as unpacked,
                tarfile.open(fileobj=cast(IO[bytes], unpacked), mode="r|") as archive,
            ):
                contents = {
                    Path(member.name).name: file.read()
                    for member in islice(archive, MEMBERS)
                    if (file := archive.extractfile(member))
                }
        except (tarfile.TarError, EOFError, OSError) as error:
            raise UserError(
                f"{path} is not a whole archive ({error}). Delete it to have it fetched anew."
            ) from error
        return self._parsed(path, contents, suffix, parse)

    def _parsed(
        self, place: Path, contents: Mapping[str, bytes], suffix: str, parse: Parse
    ) -> dict[str, Split]:
        def read(names: Sequence[str]) -> Split:
            parts = []
            for name in names:
                if name + suffix not in contents:
                    raise UserError(f"{place} lacks {name + suffix}.")
                try:
                    parts.append(parse(contents[name + suffix]))
                # Of a damaged pickle anything may come, a lack of memory for its sizes included.
                except Exception as error:
                    raise UserError(f"{place}: {name + suffix} is damaged: {error}") from error
            images = np.concatenate([images for images, _ in parts])
            labels = np.concatenate([labels for _, labels in parts])
            if labels.size and labels.max() >= len(self.class_names):
                raise UserError(f"{place}: there is a label {labels.max()}, of ten classes.")
            return InMemory(
                {
                    "input": torch.from_numpy(images.reshape(-1, *SHAPE).copy()),
                    "target": torch.from_numpy(labels.astype(np.int64)),
                }
            )

        return {"train": read(TRAIN), "test": read(TEST)}


Arrays = tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]
Parse = Callable[[bytes], Arrays]


def parse_binary(content: bytes) -> Arrays:
    """Records of one byte of label and 3,072 of red, green, blue planes."""
    if not content or len(content) % (1 + PIXELS):
        raise ValueError(f"{len(content):,} bytes are not records of {1 + PIXELS}")
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + PIXELS)
    return records[:, 1:], records[:, 0]


def parse_python(content: bytes) -> Arrays:
    """A pickled dict of ``data`` (n, 3072) uint8 and ``labels``."""
    require_short_pickle(io.BytesIO(content))
    batch = _ArraysAlone(io.BytesIO(content), encoding="bytes").load()
    if not isinstance(batch, dict) or not {b"data", b"labels"} <= batch.keys():
        raise ValueError("it holds no data and labels")
    images, labels = batch[b"data"], np.asarray(batch[b"labels"])
    if images.dtype != np.uint8 or images.shape != (len(labels), PIXELS):
        raise ValueError(f"data of shape {images.shape} and {len(labels)} labels")
    return images, labels


class _Limited(gzip.GzipFile):
    """Unpacks up to ``WHOLE`` bytes, and then no more."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > WHOLE:
            raise tarfile.ReadError(f"it unpacks to more than {WHOLE:,} bytes")
        return super().read(size)


class _ArraysAlone(pickle.Unpickler):
    """Unpickles arrays of numbers and nothing else: a pickle may name any code to run."""

    ALLOWED = frozenset({"_reconstruct", "ndarray", "dtype", "encode", "_frombuffer", "scalar"})

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] not in ("numpy", "_codecs") or name not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
        return super().find_class(module, name)
