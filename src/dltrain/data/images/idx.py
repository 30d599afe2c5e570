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
from dltrain.files import open_file, require_file, too_much

BLOCK = 1 << 20
"""Bytes that are unpacked at once."""
MOST_DIMENSIONS = 4
_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, item_shape: tuple[int, ...]) -> torch.Tensor:
    """Read a uint8 tensor (n, *item_shape) from a plain or gzipped file.

    A plain file is mapped into memory, not read: what nobody asks for stays on disk, and several
    runs share the rest. Raises :class:`UserError` naming the file if it is cut short, damaged or
    something else.
    """
    content = _unpack(path) if path.suffix == ".gz" else _map(path)
    dimensions = 1 + len(item_shape)
    shape = _shape(path, content[: 4 + 4 * MOST_DIMENSIONS].tobytes())
    header = 4 + 4 * len(shape)
    if len(shape) != dimensions:
        raise UserError(_damaged(path, f"has {len(shape)} dimensions where {dimensions} belong"))
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


def _shape(path: Path, begins: bytes) -> tuple[int, ...]:
    """What an IDX file that ``begins`` so says that it holds."""
    if len(begins) < 4 or begins[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise UserError(_damaged(path, "is not an IDX file of bytes"))
    header = 4 + 4 * begins[3]
    if begins[3] > MOST_DIMENSIONS or len(begins) < header:
        raise UserError(_damaged(path, "is not an IDX file of bytes, with their dimensions"))
    return struct.unpack(f">{begins[3]}I", begins[4:header])


def _map(path: Path) -> np.ndarray[Any, Any]:
    try:
        require_file(path)
        if not path.stat().st_size:  # which cannot be mapped
            return np.empty(0, np.uint8)
        # Copy on write: torch wants memory that it may write to, and the file is not ours.
        return np.memmap(path, np.uint8, "c")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _unpack(path: Path) -> np.ndarray[Any, Any]:
    """All that the header tells of, which comes first: a bomb is not unpacked to see its size."""
    try:
        with open_file(path, "rb") as packed, gzip.open(packed) as file:
            begins = file.read(4 + 4 * MOST_DIMENSIONS)
            shape = _shape(path, begins)
            size = 4 + 4 * len(shape) + math.prod(shape)
            problem = too_much(size, path.stat().st_size)
            if problem:
                raise UserError(_damaged(path, problem))
            content = bytearray(begins)
            end = size + 1  # so that what is too long is told
            while block := file.read(min(BLOCK, max(0, end - len(content)))):
                content += block
        return np.frombuffer(content, np.uint8)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(_damaged(path, f"is not a whole gzip file ({error})")) from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error


def _damaged(path: Path, what: str) -> str:
    return (
        f"{path} {what}. "
        "Delete it to have it fetched anew, or give another folder as data.root=DIR."
    )
