"""What the tests of data share: a source opened on the CPU, and a split in one piece."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dltrain.config.build import build
from dltrain.contracts.data import Batch, Placement, Source, Stream, Streams

CPU = torch.device("cpu")


def opened(source: Source, seed: int = 0) -> Streams:
    """The streams of a source that is read and opened by ``seed``."""
    source.read(seed)
    return source.open(Placement(CPU, seed))


def whole(stream: Stream, epoch: int = 0) -> Batch:
    """An epoch in one piece."""
    batches = list(stream.batches(epoch))
    return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}


def first(stream: Stream) -> Batch:
    """The first batch of the first epoch."""
    return next(stream.batches(0))


def same(one: list[Batch], other: list[Batch]) -> bool:
    """Whether batches have the same columns, to the last bit."""
    return len(one) == len(other) and all(
        a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
        for a, b in zip(one, other, strict=True)
    )


def read_what_is_not_known(node: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have data whose outline tells all leave its files alone, which may not be there."""
    source = build(node, Source, "data")
    outline = source.outline()
    if outline.complete:
        monkeypatch.setattr(type(source), "read", lambda self, seed: outline)
