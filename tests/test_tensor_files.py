"""A file of tensors executes nothing, and asks for no more memory than its size."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from dltrain import tensor_files
from dltrain.errors import UserError
from dltrain.models.vision.transfer import read_file
from dltrain.runs import checkpoint
from dltrain.runs.init_from import _tensors_of_file
from dltrain.tensor_files import STRUCTURE, TooMuchError, read_tensors

STATE = {"format": checkpoint.FORMAT, "task": {"weight": torch.zeros(1000)}}
LAUGHS = b"\x80\x02]q\x00" + b"".join(
    b"]q%c(h%ch%ch%ce" % (n + 1, n, n, n) for n in range(60)
)  # each list three times in the next


class Planted:
    """What would be a file, were it unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def archive(path: Path, kind: int = zipfile.ZIP_STORED, **replaced: bytes) -> Path:
    """``STATE`` as torch saves it, with some parts ``replaced``."""
    whole = io.BytesIO()
    torch.save(STATE, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(path, "w", kind) as made:
        for entry in source.infolist():
            name = entry.filename.partition("/")[2].replace(".", "_").replace("/", "_")
            made.writestr(entry.filename, replaced.get(name, source.read(entry)))
    return path


def called(name: str, argument: int) -> bytes:
    """A pickle that asks for ``name(argument)``."""
    return b"\x80\x02c" + name.encode() + b"\n" + pickle.dumps((argument,), 2)[2:-1] + b"R."


def test_what_torch_saves_is_read(tmp_path: Path) -> None:
    for zipped in (True, False):
        torch.save(STATE, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        assert torch.equal(read_tensors(tmp_path / "a.pt")["task"]["weight"], torch.zeros(1000))
    weights = torch.zeros(10)
    tied = {str(number): weights for number in range(20)}
    torch.save(tied, tmp_path / "tied.pt")
    assert len(read_tensors(tmp_path / "tied.pt")) == 20
    assert read_tensors(archive(tmp_path / "b.pt"))["format"] == checkpoint.FORMAT


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": zipfile.ZIP_DEFLATED, "data_0": bytes(1 << 22)}, "it is packed"),
        ({"data_pkl": LAUGHS + b"."}, "more than 10,000 values"),
        ({"data_pkl": b"\x80\x02" + b"]" * (STRUCTURE + (1 << 16)) + b"."}, "names and plain"),
        ({"data_pkl": called("torch\nTensor", 10**15)}, "RuntimeError"),
        ({"data_pkl": called("posix\nmkdir", 1)}, "something else than tensors"),
    ],
    ids=["packed", "laughs", "lists", "tensor", "call"],
)
def test_a_small_file_asks_for_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], why: str
) -> None:
    monkeypatch.setattr(tensor_files, "MOST_VALUES", 10_000)
    path = archive(tmp_path / "last.pt", **change)

    with pytest.raises(UserError, match=why) as caught:
        checkpoint.load(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**12),
        torch.empty(10**12, device="meta"),
        torch.sparse_coo_tensor(
            torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (10**12,), check_invariants=True
        ),
    ],
    ids=["expanded", "meta", "sparse"],
)
def test_a_tensor_is_made_of_the_bytes_that_are_there(tmp_path: Path, tensor: torch.Tensor) -> None:
    torch.save(STATE | {"task": {"weight": tensor}}, tmp_path / "last.pt")

    with pytest.raises(TooMuchError):
        read_tensors(tmp_path / "last.pt")
    with pytest.raises(UserError, match=r"last\.pt cannot be read as a checkpoint"):
        checkpoint.load(tmp_path / "last.pt")


def test_entries_that_lie_over_each_other_are_counted_each(tmp_path: Path) -> None:
    archive(tmp_path / "a.pt")
    content = (tmp_path / "a.pt").read_bytes()
    at = content.rfind(b"PK\5\6")
    directory = int.from_bytes(content[at + 16 : at + 20], "little")
    entries, count = content[directory:at], int.from_bytes(content[at + 10 : at + 12], "little")
    end = bytearray(content[at:])
    end[8:10] = end[10:12] = (count * 9).to_bytes(2, "little")
    end[12:16] = (len(entries) * 9).to_bytes(4, "little")
    (tmp_path / "b.pt").write_bytes(content[:directory] + entries * 9 + bytes(end))

    with pytest.raises(TooMuchError, match="it says that it holds more"):
        read_tensors(tmp_path / "b.pt")


@pytest.mark.parametrize("kind", ["script", "pickle", "torch"])
def test_what_would_execute_does_not_and_no_advice_says_how(tmp_path: Path, kind: str) -> None:
    path, planted = tmp_path / "weights.pt", tmp_path / "PLANTED"
    if kind == "script":
        archive(path)
        with zipfile.ZipFile(path, "a") as made:
            made.writestr("archive/constants.pkl", b"")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Planted(planted)))
    else:
        torch.save({"format": checkpoint.FORMAT, "task": Planted(planted)}, path)

    for read in (checkpoint.load, _tensors_of_file, lambda p: read_file(str(p))):
        with pytest.raises(ValueError, match=r"weights\.pt") as caught:
            read(path)
        assert "weights_only" not in str(caught.value)
        assert "\n" not in str(caught.value)
    assert not planted.exists()
