"""A hash of each example: it tells data from other data, and finds what stands in two splits.

64 bits, made by multiplying and adding whole arrays, at the speed of memory. Against chance, not
against somebody who wants two examples to have one hash.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Hashes = npt.NDArray[np.uint64]
"""One a row."""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
"""The factors of splitmix64 (Steele, Lea and Flood 2014)."""
PART = 1 << 15
"""Words that are hashed at a time: they stay in the processor's cache."""
MANY = 0.01
"""From that fraction of a split on, examples that are trained on as well are worth a warning."""


def hashes_of(column: Tensor) -> Hashes:
    """Of each row of ``column`` (rows, …), by its bytes."""
    rows = len(column)
    found = np.empty(rows, np.uint64)
    if not column.numel():
        found[:] = 0
        return found
    flat = column.contiguous().flatten()
    if flat.stride(0) != 1:  # one number, whose stride may be any
        flat = flat.clone(memory_format=torch.contiguous_format)
    content = flat.view(torch.uint8).reshape(rows, -1).numpy()
    width = -(-content.shape[1] // 8)
    salts = _salts(width)
    step = max(1, PART // width)
    for first in range(0, rows, step):
        part = content[first : first + step]
        if part.shape[1] % 8:  # no whole number of words
            part = np.pad(part, ((0, 0), (0, width * 8 - part.shape[1])))
        mixed = _mixed(part.view(np.uint64) + salts)
        found[first : first + step] = mixed.sum(1, dtype=np.uint64)
    return _mixed(found)


def hashes_of_ragged(values: Tensor, starts: Tensor, lengths: Tensor) -> Hashes:
    """Of each row, whose values (all, …) lie at ``starts`` (rows,), ``lengths`` of them."""
    whole = values.dim() == 1 and not values.is_floating_point()
    tokens = values.numpy() if whole else hashes_of(values)
    begins, sizes = starts.numpy(), lengths.numpy()
    salts = _salts(int(sizes.max(initial=0)))
    found = np.empty(len(sizes), np.uint64)
    step = max(1, PART // max(1, len(salts)))
    for first in range(0, len(sizes), step):
        size = sizes[first : first + step]
        ends = size.cumsum()
        within = np.arange(ends[-1]) - np.repeat(ends - size, size)
        token = tokens[np.repeat(begins[first : first + step], size) + within]
        mixed = _mixed(token.astype(np.uint64) + salts[within])
        sums = np.concatenate([np.zeros(1, np.uint64), mixed.cumsum(dtype=np.uint64)])
        found[first : first + step] = sums[ends] - sums[ends - size] + size.astype(np.uint64)
    return _mixed(found)


def joined(columns: Mapping[str, Hashes]) -> Hashes:
    """Of each example, all of its columns."""
    found = np.zeros(1, np.uint64)
    steps = np.arange(1, len(columns) + 1, dtype=np.uint64) * GOLDEN  # of an array: may overflow
    for step, name in zip(steps, sorted(columns), strict=True):
        found = _mixed((found ^ columns[name]) + step)
    return found


def digest(columns: Mapping[str, Hashes]) -> str:
    """Of a whole split: its examples, and their order."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(columns):
        found.update(name.encode() + columns[name].astype("<u8").tobytes())
    return found.hexdigest()


def tell_duplicates(splits: Mapping[str, Mapping[str, Hashes]]) -> None:
    """Log how many examples of the other splits have the inputs of one that is trained on."""
    inputs = {
        name: joined({column: found for column, found in columns.items() if column != "target"})
        for name, columns in splits.items()
    }
    for name, found in inputs.items():
        count = int(np.isin(found, inputs["train"]).sum()) if name != "train" else 0
        if count:
            logger.log(
                logging.WARNING if count >= MANY * len(found) else logging.INFO,
                "%s of %s %s examples have the same input as a training example.",
                *(f"{count:,}", f"{len(found):,}", name),
            )


def stored_hashes(file: Path) -> Hashes:
    """Of the rows of an .npy array of a cache; kept beside it, for it never changes."""
    kept = file.with_name(f".{file.stem}-hashes.npy")
    if kept.is_file():
        return np.asarray(np.load(kept))
    found = hashes_of(torch.from_numpy(np.load(file, mmap_mode="c")))
    partial = kept.with_name(f"{kept.stem}.{id(found)}.partial.npy")
    try:
        np.save(partial, found)
        partial.replace(kept)
    except OSError:  # a cache that is only read: then it is computed each time
        partial.unlink(missing_ok=True)
    return found


def _salts(count: int) -> Hashes:
    """Another number for every place."""
    return _mixed(np.arange(1, count + 1, dtype=np.uint64) * GOLDEN)


def _mixed(words: npt.NDArray[Any]) -> Hashes:
    """Each word scrambled, in place."""
    words *= FIRST
    words ^= words >> np.uint64(32)
    words *= SECOND
    words ^= words >> np.uint64(29)
    return words
