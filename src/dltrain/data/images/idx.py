"""The IDX file format of MNIST: a magic number, the dimensions, then the bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dltrain.data.cache import made_once
from dltrain.errors import UserError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, item_shape: tuple[int, ...]) -> torch.Tensor:
    """Read a uint8 tensor (n, *item_shape) from a plain or gzipped file.

    A plain file is mapped into memory, not read: what nobody asks for stays on disk, and several
    runs share the rest. Raises :class:`UserError` naming the file if it is cut short, damaged or
    something else.
    """
    content = _unpack(path) if path.suffix == ".gz" else _map(path)
    dimensions = 1 + len(item_shape)
    header = 4 + 4 * dimensions
    if len(content) < header or content[:3].tobytes() != bytes([0, 0, _UNSIGNED_BYTE]):
        raise UserError(_damaged(path, "is not an IDX file of bytes"))
    if content[3] != dimensions:
        raise UserError(_damaged(path, f"has {content[3]} dimensions where {dimensions} belong"))
    shape = struct.unpack(f">{dimensions}I", content[4:header].tobytes())
    if shape[1:] != item_shape:
        raise UserError(_damaged(path, f"holds items of {shape[1:]} where {item_shape} belong"))
    if len(content) != header + math.prod(shape):
        raise UserError(
            _damaged(path, f"has {len(content):,} bytes where {header + math.prod(shape):,} belong")
        )
    return torch.from_numpy(content[header:]).view(shape)


def plain(path: Path, folder: Path) -> Path:
    """``path`` itself or, if it is gzipped, its content in ``folder``, unpacked there once.

    Raises :class:`~dltrain.data.cache.CannotKeepError` where the folder takes no files, and
    :class:`UserError` as :func:`read_idx` does.
    """
    if path.suffix != ".gz":
        return path
    found = path.stat()
    settings = [str(path.resolve()), found.st_size, found.st_mtime_ns]

    def unpack(place: Path) -> None:
        _unpack(path).tofile(place / path.stem)

    return made_once(folder, settings, unpack, "the unpacked files") / path.stem


def _map(path: Path) -> np.ndarray[Any, Any]:
    try:
        if not path.stat().st_size:  # which cannot be mapped
            return np.empty(0, np.uint8)
        # Copy on write: torch wants memory that it may write to, and the file is not ours.
        return np.memmap(path, np.uint8, "c")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _unpack(path: Path) -> np.ndarray[Any, Any]:
    try:
        return np.frombuffer(bytearray(gzip.decompress(path.read_bytes())), np.uint8)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(_damaged(path, f"is not a whole gzip file ({error})")) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _damaged(path: Path, what: str) -> str:
    return (
        f"{path} {what}. "
        "Delete it to have it fetched anew, or give another folder as data.root=DIR."
    )
