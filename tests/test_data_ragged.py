"""Batches of sequences of different lengths: every one whole, once, with others of its length."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from dltrain.contracts.data import Batch
from dltrain.data.streams.in_memory import BUCKET, Batching, Limits
from dltrain.data.streams.ragged import Ragged, RaggedStream
from tests.streams import CPU, same


def sequences(count: int = 200, longest: int = 100) -> list[Tensor]:
    """Sequence n begins with n + 1 and goes on with random ids."""
    generator = torch.Generator().manual_seed(3)
    lengths = torch.randint(1, longest, (count,), generator=generator).tolist()
    return [
        torch.cat([torch.tensor([n + 1]), torch.randint(1, 9, (length - 1,), generator=generator)])
        for n, length in enumerate(lengths)
    ]


def loader(rows: list[Tensor], limits: Limits, seed: int = 0, shuffle: bool = True) -> RaggedStream:
    ids = Ragged.joined(torch.cat(rows).int(), torch.tensor([len(row) for row in rows]))
    batching = Batching(limits, CPU, lambda b, g: b, seed, shuffle)
    return RaggedStream({"input": ids}, {"target": torch.arange(len(rows))}, batching)


LIMITS = [Limits(16), Limits(None, 500), Limits(16, 500), Limits(1), Limits(10_000)]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("limits", LIMITS)
def test_every_sequence_comes_whole_and_once_padded_to_its_batchs_longest(
    limits: Limits, shuffle: bool
) -> None:
    rows = sequences()
    batches = loader(rows, limits, shuffle=shuffle)
    assert batches.examples == len(rows)
    seen: list[int] = []
    for number, batch in enumerate(batches.batches(0)):
        assert batch["input"].dtype == torch.int32
        targets = batch["target"].tolist()
        assert torch.equal(batches.rows(0, number), batch["target"])
        assert batch["input_length"].tolist() == [len(rows[n]) for n in targets]
        assert batch["input"].shape[1] == max(len(rows[n]) for n in targets)
        for n, ids in zip(targets, batch["input"], strict=True):
            assert torch.equal(ids[: len(rows[n])].long(), rows[n])
            assert not ids[len(rows[n]) :].any()
        seen += targets
    assert number + 1 == batches.steps_per_epoch
    assert sorted(seen) == list(range(len(rows)))


@pytest.mark.parametrize("limits", LIMITS)
def test_batches_keep_to_their_limits(limits: Limits) -> None:
    for shuffle in (True, False):
        for batch in loader(sequences(), limits, shuffle=shuffle).batches(0):
            count, longest = batch["input"].shape
            assert limits.examples is None or count <= limits.examples
            assert limits.tokens is None or count * longest <= limits.tokens or count == 1


@pytest.mark.parametrize("limits", [Limits(16), Limits(None, 500)])
def test_a_batch_holds_sequences_of_about_one_length(limits: Limits) -> None:
    rows = sequences()
    batches = list(loader(rows, limits).batches(0))
    real = sum(int((batch["input"] > 0).sum()) for batch in batches)
    assert real / sum(batch["input"].numel() for batch in batches) > 0.8
    # Nearly a bucket's worth, where the sorted ones are cut between two of them.
    spreads = [
        max(len(rows[n]) for n in targets) - min(len(rows[n]) for n in targets)
        for targets in (batch["target"].tolist() for batch in batches)
    ]
    assert sorted(spreads)[len(spreads) // 2] < 2 * BUCKET


@pytest.mark.parametrize("limits", [Limits(16), Limits(None, 500)])
def test_seed_and_epoch_alone_decide_the_order(limits: Limits) -> None:
    rows = sequences()

    def epoch(number: int, seed: int = 0) -> list[Batch]:
        return list(loader(rows, limits, seed).batches(number))

    used = loader(rows, limits)
    for number in (0, 2, 1):
        list(used.batches(number))
    assert same(list(used.batches(2)), epoch(2))
    assert not same(epoch(0), epoch(1))
    assert not same(epoch(0), epoch(0, seed=1))
    # Not the batches alone are shuffled, but what is in them.
    contents = [{frozenset(b["target"].tolist()) for b in epoch(n)} for n in (0, 1)]
    assert len(contents[0] & contents[1]) < len(contents[0]) / 2


def test_the_order_of_batches_is_not_that_of_lengths() -> None:
    lengths = [batch["input"].shape[1] for batch in loader(sequences(), Limits(16)).batches(0)]
    assert sorted(lengths) not in (lengths, lengths[::-1])


@pytest.mark.parametrize("limits", LIMITS)
def test_every_epoch_has_as_many_batches_and_goes_on_from_any(limits: Limits) -> None:
    batches = loader(sequences(), limits)
    count = batches.steps_per_epoch
    for epoch in range(4):
        whole = list(batches.batches(epoch))
        assert len(whole) == count
        start = count // 2
        assert same(list(batches.batches(epoch, start)), whole[start:])


def test_evaluation_is_sorted_and_always_the_same() -> None:
    batches = loader(sequences(), Limits(16, 500), shuffle=False)
    first = list(batches.batches(0))
    assert same(list(batches.batches(5)), first)
    assert all(a["input"].shape[1] <= b["input"].shape[1] for a, b in pairwise(first))


def test_one_very_long_sequence_is_a_batch_of_its_own() -> None:
    rows = [*sequences(50), torch.ones(50_000, dtype=torch.int64)]
    for shuffle in (True, False):
        found = [
            tuple(b["input"].shape) for b in loader(rows, Limits(64, 4000), 0, shuffle).batches(0)
        ]
        assert (1, 50_000) in found
        assert max(n * time for n, time in found if n > 1) <= 4000


@pytest.mark.parametrize("rows", [[torch.tensor([5])], [torch.tensor([5])] * 3])
def test_the_smallest_splits_work(rows: list[Any]) -> None:
    for shuffle in (True, False):
        batches = list(loader(rows, Limits(2), shuffle=shuffle).batches(0))
        assert sum(len(batch["input"]) for batch in batches) == len(rows)
        assert all((batch["input"] == 5).all() for batch in batches)


def pairs(limits: Limits, shuffle: bool) -> tuple[list[Tensor], list[Tensor], RaggedStream]:
    """Sequences of numbers, and sequences of boxes of other lengths, that belong together."""
    rows = sequences(60, 40)
    generator = torch.Generator().manual_seed(5)
    counts = torch.randint(0, 60, (len(rows),), generator=generator)
    boxes = [torch.rand(int(count), 4, generator=generator) for count in counts]
    ragged = {
        "input": Ragged.joined(torch.cat(rows), torch.tensor([len(row) for row in rows])),
        "boxes": Ragged.joined(torch.cat(boxes), counts, fill=-1.0),
    }
    batching = Batching(limits, CPU, lambda b, g: b, shuffle=shuffle)
    return rows, boxes, RaggedStream(ragged, {"target": torch.arange(len(rows))}, batching)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("limits", [Limits(8), Limits(None, 300)])
def test_several_columns_are_each_padded_with_their_own_fill(limits: Limits, shuffle: bool) -> None:
    rows, boxes, stream = pairs(limits, shuffle)
    seen: list[int] = []
    for position, batch in enumerate(stream.batches(1)):
        targets = batch["target"].tolist()
        assert torch.equal(stream.rows(1, position), batch["target"])
        for name, column, fill in (("input", rows, 0), ("boxes", boxes, -1)):
            lengths = [len(column[n]) for n in targets]
            assert batch[f"{name}_length"].tolist() == lengths
            assert batch[name].dtype == column[0].dtype
            assert batch[name].shape[:2] == (len(targets), max(lengths))
            for n, found, length in zip(targets, batch[name], lengths, strict=True):
                assert torch.equal(found[:length], column[n])
                assert (found[length:] == fill).all()
            # The longest column of each example is what is counted.
            tokens = len(targets) * max(lengths)
            assert limits.tokens is None or tokens <= limits.tokens or len(targets) == 1
        seen += targets
    assert sorted(seen) == list(range(len(rows)))


def test_a_column_that_is_empty_throughout_a_batch_is_empty() -> None:
    ragged = {
        "input": Ragged.joined(torch.arange(3), torch.tensor([1, 2])),
        "boxes": Ragged.joined(torch.zeros(0, 4), torch.tensor([0, 0])),
    }
    batching = Batching(Limits(), CPU, lambda b, g: b)
    batch = next(RaggedStream(ragged, {}, batching).batches(0))
    assert batch["boxes"].shape == (2, 0, 4)
    assert batch["input"].tolist() == [[0, 0], [1, 2]]
