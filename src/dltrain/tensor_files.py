"""The one door for files of tensors: checkpoints, examples and weights, whoever made them.

torch's unpickler for weights executes nothing. It has no limits, though: a few kilobytes, packed or
referred to again and again, can ask for more memory than there is. So limits come first.
"""

from __future__ import annotations

import pickle
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from dltrain.files import open_file

MOST_CONTENTS = 1 << 25
"""Bytes of a file's table of contents."""
STRUCTURE, EACH = 1 << 20, 1 << 10
"""Bytes of names and plain values that a file may have, and as many more for each tensor."""
MOST_VALUES = 1_000_000
"""Values, as often as they are referred to."""
SHARED = 64
"""How often a byte of the file may be part of a tensor; tied weights have several names."""
_END = b"PK\5\6"
_LOCATOR, _RECORD = b"PK\6\7", b"PK\6\6"


class TooMuchError(ValueError):
    """A file that asks for more than one of its size can hold."""


def read_tensors(path: Path, device: torch.device | str = "cpu", mapped: bool = False) -> Any:
    """What ``torch.load`` makes of a file of tensors and plain values; it executes nothing.

    ``mapped`` tensors stay in the file, and are read as far as somebody asks.
    Raises :class:`TooMuchError`, and whatever torch makes of a damaged file.
    """
    with open_file(path, "rb") as file:
        size = path.stat().st_size
        if file.read(4) == b"PK\3\4":
            _require_limits(file, size)
            _require_whole(file)
        else:
            # The format before torch 1.6: pickles, of which the last has the structure.
            file.seek(0)
            for _ in range(4):
                require_short_pickle(file)
        file.seek(0)
        with warnings.catch_warnings():  # on how the file is pickled: it is refused or it is not
            warnings.simplefilter("ignore")
            found = torch.load(
                path if mapped else file, map_location=device, mmap=mapped, weights_only=True
            )
    _require_own_bytes(found, size)
    return found


def reason(error: Exception) -> str:
    """Why a file of tensors could not be read, in a line."""
    said = f"{type(error).__name__}: {error}".splitlines()[0].removesuffix(": ")
    if isinstance(error, TooMuchError):
        return str(error)
    # torch's words advise to trust the file.
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in said:
        return "it is damaged, or holds something else than tensors and plain values"
    return said


def _require_limits(file: IO[bytes], size: int) -> None:
    """Check the zip archive that a file of tensors is, by its table of contents alone."""
    if _table_of_contents(file, size) > MOST_CONTENTS:
        raise TooMuchError("its table of contents is larger than any of a network's")
    file.seek(0)
    try:
        entries = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, OSError) as error:
        raise ValueError(f"it is no whole zip archive ({error})") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise TooMuchError("it is packed, which torch's own files are not; nothing is unpacked")
    if sum(entry.file_size for entry in entries) > size:
        raise TooMuchError(f"it says that it holds more than its {size:,} bytes")
    names = max((e.file_size for e in entries if e.filename.endswith("data.pkl")), default=0)
    if names > STRUCTURE + EACH * len(entries):
        raise TooMuchError(f"it has {names:,} bytes of names and plain values for so few tensors")


def _require_whole(file: IO[bytes]) -> None:
    """Check the CRC-32 of every part, which torch does not: a flipped bit is another weight."""
    try:
        bad = zipfile.ZipFile(file).testzip()
    except (zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError, EOFError) as error:
        raise ValueError(f"it is no whole zip archive ({error})") from error
    if bad is not None:
        raise ValueError("it is damaged: a part of it has another checksum")


def require_short_pickle(file: IO[bytes]) -> None:
    """Raise :class:`TooMuchError` for a pickle of more steps than an honest one has.

    Python makes room for whatever number a value is to be remembered by.
    """
    for number, (step, argument, _) in enumerate(pickletools.genops(file)):
        remembered = argument if step.name.endswith("BINPUT") and isinstance(argument, int) else 0
        if max(number, remembered) > MOST_VALUES:
            raise TooMuchError(f"it has more than {MOST_VALUES:,} values")


def _table_of_contents(file: IO[bytes], size: int) -> int:
    """How long an archive's table of contents is, as its last bytes tell."""
    file.seek(max(0, size - (1 << 16) - 22))
    last = file.read()
    at = last.rfind(_END)
    if at < 0 or at + 22 > len(last):
        raise ValueError("it is no whole zip archive (its end is missing)")
    length: int = struct.unpack("<L", last[at + 12 : at + 16])[0]
    if last[at - 20 : at - 16] == _LOCATOR:
        file.seek(min(size, struct.unpack("<Q", last[at - 12 : at - 4])[0]))
        record = file.read(56)
        if record[:4] == _RECORD and len(record) == 56:
            length = max(length if length != 0xFFFFFFFF else 0, *struct.unpack("<Q", record[40:48]))
    return length


def _require_own_bytes(content: Any, size: int) -> None:
    """See that tensors are made of the file's bytes, and values of as many as anybody wrote."""
    total = 0
    for number, value in enumerate(_values(content)):
        if number > MOST_VALUES:
            raise TooMuchError(f"it has more than {MOST_VALUES:,} values")
        if not isinstance(value, torch.Tensor):
            continue
        if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
            raise TooMuchError(f"it has a tensor of another kind ({value.layout})")
        there = value.untyped_storage().nbytes()
        wanted = value.numel() * value.element_size()
        total += wanted
        if there > size or wanted > there or total > SHARED * size:
            raise TooMuchError(f"it has tensors of more than its {size:,} bytes")


def _values(content: Any) -> Iterator[Any]:
    """All that is in ``content``, as often as it is referred to: a few bytes can hold a billion."""
    waiting = [iter((content,))]
    while waiting:
        for value in waiting[-1]:
            yield value
            if isinstance(value, Mapping):
                waiting.append(iter([*value.keys(), *value.values()]))
                break
            if isinstance(value, (list, tuple, set, frozenset)):
                waiting.append(iter(value))
                break
        else:
            waiting.pop()
