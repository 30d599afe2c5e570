"""The IDX file format of MNIST: a magic number, the dimensions, then the bytes."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from dltrain.errors import UserError

_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, item_shape: tuple[int, ...]) -> torch.Tensor:
    """Read a uint8 tensor (n, *item_shape) from a plain or gzipped file.

    Raises :class:`UserError` naming the file if it is cut short, damaged or something else.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except OSError as error:
        if not isinstance(error, gzip.BadGzipFile):
            raise UserError(f"{path} cannot be read: {error.strerror}.") from error
        raise UserError(_damaged(path, f"is not a whole gzip file ({error})")) from error
    except (EOFError, zlib.error) as error:
        raise UserError(_damaged(path, f"is not a whole gzip file ({error})")) from error
    dimensions = 1 + len(item_shape)
    header = 4 + 4 * dimensions
    if len(content) < header or content[:3] != bytes([0, 0, _UNSIGNED_BYTE]):
        raise UserError(_damaged(path, "is not an IDX file of bytes"))
    if content[3] != dimensions:
        raise UserError(_damaged(path, f"has {content[3]} dimensions where {dimensions} belong"))
    shape = struct.unpack(f">{dimensions}I", content[4:header])
    if shape[1:] != item_shape:
        raise UserError(_damaged(path, f"holds items of {shape[1:]} where {item_shape} belong"))
    if len(content) != header + math.prod(shape):
        raise UserError(
            _damaged(path, f"has {len(content):,} bytes where {header + math.prod(shape):,} belong")
        )
    # bytearray: torch wants memory that it may write to.
    return torch.from_numpy(np.frombuffer(bytearray(content), np.uint8, offset=header)).view(shape)


def _damaged(path: Path, what: str) -> str:
    return (
        f"{path} {what}. "
        "Delete it to have it fetched anew, or give another folder as data.root=DIR."
    )
