"""Fashion-MNIST and CIFAR-10, read from tiny files in the published formats."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dltrain.contracts.data import Batch, Source
from dltrain.data.images import cifar, mnist
from dltrain.data.images.cifar import Cifar10
from dltrain.data.images.idx import read_idx
from dltrain.data.images.mnist import FashionMnist
from dltrain.errors import UserError
from tests.streams import opened, whole

EACH = 4
PLAIN: dict[str, Any] = {"mean": [0.0], "std": [1.0], "validation": 0}


def splits(source: Source) -> tuple[Batch, Batch]:
    loaders = opened(source, 0)
    order = loaders["train"].rows(0, 0).argsort()
    return {n: c[order] for n, c in whole(loaders["train"]).items()}, whole(loaders["test"])


def idx(array: np.ndarray[Any, Any]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def fashion_files() -> dict[str, np.ndarray[Any, Any]]:
    generator = np.random.default_rng(0)
    return {
        f"{split}-{kind}": generator.integers(0, high, (count, *shape), np.uint8)
        for split, count in (("train", 6), ("t10k", 3))
        for kind, high, shape in (
            ("images-idx3-ubyte", 256, (28, 28)),
            ("labels-idx1-ubyte", 10, ()),
        )
    }


@pytest.mark.parametrize("packed", [True, False])
def test_fashion_mnist_is_read_plain_and_packed(packed: bool, tmp_path: Path) -> None:
    files = fashion_files()
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, array in files.items():
        path = folder / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    source = FashionMnist(root=str(tmp_path), **PLAIN)
    train, test = splits(source)

    for split, name in ((train, "train"), (test, "t10k")):
        images = torch.from_numpy(files[f"{name}-images-idx3-ubyte"])[:, None] / 255
        torch.testing.assert_close(split["input"], images)
        assert split["target"].tolist() == files[f"{name}-labels-idx1-ubyte"].tolist()
    assert source.outline().class_names[9] == "ankle boot"


def packed_fashion(root: Path) -> FashionMnist:
    folder = root / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, array in fashion_files().items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    return FashionMnist(root=str(root), **PLAIN)


def test_packed_files_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = packed_fashion(tmp_path)
    first = splits(source)
    monkeypatch.setattr(gzip, "decompress", None)

    torch.testing.assert_close(splits(source), first)


def test_where_nothing_can_be_kept_packed_files_are_still_read(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder would be")

    assert len(splits(packed_fashion(tmp_path))[0]["input"]) == 6


def test_who_writes_to_a_mapped_file_leaves_it_as_it_is(tmp_path: Path) -> None:
    array = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    path = tmp_path / "images"
    path.write_bytes(idx(array))

    read_idx(path, (2, 2)).zero_()

    assert read_idx(path, (2, 2)).tolist() == array.tolist()


def test_fashion_mnist_is_fetched_checked_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = tmp_path / "remote"
    remote.mkdir()
    for name, array in fashion_files().items():
        content = gzip.compress(idx(array))
        (remote / f"{name}.gz").write_bytes(content)
        monkeypatch.setitem(mnist.FASHION_FILES, name, hashlib.md5(content).hexdigest())
    source = FashionMnist(root=str(tmp_path / "own"), mirrors=[remote.as_uri()], **PLAIN)

    assert len(splits(source)[0]["input"]) == 6
    (remote / "train-images-idx3-ubyte.gz").write_bytes(b"other")
    assert len(splits(source)[0]["input"]) == 6
    elsewhere = FashionMnist(root=str(tmp_path / "new"), mirrors=[remote.as_uri()])
    with pytest.raises(UserError, match=r"its checksum is wrong[\s\S]*data\.root=DIR"):
        splits(elsewhere)
    assert not list((tmp_path / "new").rglob("*.gz"))


def cifar_batches() -> dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    generator = np.random.default_rng(1)
    return {
        name: (
            generator.integers(0, 256, (EACH, 3072), np.uint8),
            generator.integers(0, 10, EACH, np.uint8),
        )
        for name in (*cifar.TRAIN, *cifar.TEST)
    }


def as_binary(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> bytes:
    return np.concatenate([labels[:, None], images], 1).tobytes()


def as_python(images: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> bytes:
    # The published files were pickled by Python 2, whose texts are bytes.
    return pickle.dumps({b"data": images, b"labels": labels.tolist()}, protocol=2)


FORMS = {
    "binary": (as_binary, ".bin", "cifar-10-batches-bin", cifar.BINARY),
    "python": (as_python, "", "cifar-10-batches-py", cifar.PYTHON),
}


def write_cifar(root: Path, form: str, packed: bool, **other: bytes) -> None:
    """The batches; ``other`` replaces the content of some."""
    dump, suffix, folder, archive = FORMS[form]
    contents = {name: dump(*batch) for name, batch in cifar_batches().items()} | other
    root.mkdir(parents=True, exist_ok=True)
    if packed:
        with tarfile.open(root / archive, "w:gz") as tar:
            for name, content in contents.items():
                member = tarfile.TarInfo(f"{folder}/{name}{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    else:
        (root / folder).mkdir()
        for name, content in contents.items():
            (root / folder / f"{name}{suffix}").write_bytes(content)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_cifar10_is_read_in_every_published_form(form: str, packed: bool, tmp_path: Path) -> None:
    write_cifar(tmp_path, form, packed)
    train, test = splits(Cifar10(root=str(tmp_path), **PLAIN))

    batches = cifar_batches()
    images = np.concatenate([batches[name][0] for name in cifar.TRAIN])
    expected = torch.from_numpy(images).view(-1, 3, 32, 32) / 255
    torch.testing.assert_close(train["input"], expected)
    assert test["target"].tolist() == batches["test_batch"][1].tolist()
    assert train["target"].dtype == torch.int64


def test_cifar10_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar(tmp_path / "remote", "binary", packed=True)
    content = (tmp_path / "remote" / cifar.BINARY).read_bytes()
    monkeypatch.setattr(cifar, "MD5", hashlib.md5(content).hexdigest())
    mirror = (tmp_path / "remote").as_uri()
    source = Cifar10(root=str(tmp_path / "own"), mirrors=[mirror], **PLAIN)

    assert len(splits(source)[0]["input"]) == 5 * EACH
    (tmp_path / "remote" / cifar.BINARY).unlink()
    assert len(splits(source)[0]["input"]) == 5 * EACH


class Harmful:
    def __reduce__(self) -> Any:
        return os.mkdir, ("should-not-be",)


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("binary", b"123", r"data_batch_2.bin is damaged: 3 bytes are not records of 3073"),
        ("binary", bytes([77]) + bytes(3072), r"there is a label 77, of ten classes"),
        ("python", b"123", r"data_batch_2 is damaged"),
        ("python", pickle.dumps([1]), r"data_batch_2 is damaged: it holds no data and labels"),
        ("python", pickle.dumps(Harmful()), r"it asks for posix.mkdir, which is no array"),
    ],
)
def test_damaged_batches_are_named(form: str, content: bytes, message: str, tmp_path: Path) -> None:
    write_cifar(tmp_path, form, packed=False, data_batch_2=content)
    with pytest.raises(UserError, match=message):
        splits(Cifar10(root=str(tmp_path)))


def test_a_missing_batch_and_a_cut_archive_are_named(tmp_path: Path) -> None:
    write_cifar(tmp_path / "a", "binary", packed=False)
    (tmp_path / "a" / "cifar-10-batches-bin" / "test_batch.bin").unlink()
    with pytest.raises(UserError, match=r"lacks test_batch\.bin"):
        splits(Cifar10(root=str(tmp_path / "a")))

    write_cifar(tmp_path / "b", "binary", packed=True)
    archive = tmp_path / "b" / cifar.BINARY
    archive.write_bytes(archive.read_bytes()[:5000])
    with pytest.raises(UserError, match="not a whole archive"):
        splits(Cifar10(root=str(tmp_path / "b")))
