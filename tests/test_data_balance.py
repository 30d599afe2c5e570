"""Which examples an epoch has: classes of unequal size, and a last batch of one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dltrain.contracts.task import Task
from dltrain.data.images.digits import Digits
from dltrain.data.streams.first_batches import FirstBatches
from dltrain.data.streams.in_memory import Batching, Limits, TensorStream
from dltrain.data.streams.ragged import Ragged, RaggedStream
from dltrain.data.tables.source import Diabetes
from dltrain.data.text.toy_reviews import ToyReviews
from dltrain.engine.batch_norm import require_variance
from dltrain.errors import UserError
from dltrain.tasks.classification import Classification
from tests.asking import classes
from tests.streams import CPU, opened, same

RARE = torch.tensor([0] * 90 + [2] * 8 + [3] * 2)
"""Classes of examples; there is none of class 1."""


def stream(
    target: Tensor, size: int | None = 10, balance: bool = True, seed: int = 0
) -> TensorStream:
    return TensorStream(
        {"input": torch.arange(len(target)), "target": target},
        Batching(
            Limits(size), CPU, lambda batch, draw: batch, seed, True, target if balance else None
        ),
    )


def ragged(target: Tensor, seed: int = 0) -> RaggedStream:
    lengths = torch.arange(len(target)) % 7 + 1
    texts = Ragged.joined(torch.arange(int(lengths.sum())), lengths)
    batching = Batching(Limits(10), CPU, lambda batch, draw: batch, seed, True, target)
    return RaggedStream({"input": texts}, {"target": target}, batching)


@pytest.mark.parametrize("make", [stream, ragged], ids=["fixed", "ragged"])
def test_each_class_that_occurs_comes_about_as_often(make: Any) -> None:
    balanced = make(RARE)
    counts = torch.zeros(4)
    for epoch in range(30):
        batches = list(balanced.batches(epoch))
        assert [len(batch["target"]) for batch in batches] == [10] * 10
        counts += torch.cat([batch["target"] for batch in batches]).bincount(minlength=4)

    # A class is a third of 3,000 draws; a standard deviation is 26 of them.
    assert counts[1] == 0
    assert float((counts[[0, 2, 3]] - 1000).abs().max()) < 110


def test_every_example_of_a_class_is_drawn() -> None:
    balanced = stream(RARE)
    seen = torch.cat([b["input"] for epoch in range(60) for b in balanced.batches(epoch)])
    assert seen.unique().tolist() == list(range(100))


@pytest.mark.parametrize("make", [stream, ragged], ids=["fixed", "ragged"])
def test_what_is_drawn_depends_on_seed_epoch_and_position_alone(make: Any) -> None:
    one, other = make(RARE), make(RARE)
    list(other.batches(3))

    assert same(list(one.batches(1)), list(other.batches(1)))
    assert same(list(one.batches(1))[4:], list(other.batches(1, start=4)))
    assert not same(list(one.batches(1)), list(one.batches(2)))
    assert not same(list(one.batches(1)), list(make(RARE, seed=1).batches(1)))
    batch = next(iter(one.batches(5)))
    assert torch.equal(RARE[one.rows(5, 0)], batch["target"])


def test_a_batch_of_all_is_drawn_anew_too() -> None:
    (batch,) = stream(RARE, None).batches(0)
    assert len(batch["target"]) == 100
    assert int((batch["target"] == 0).sum()) < 60


def test_a_source_balances_its_training_split_alone() -> None:
    plain, balanced = (opened(Digits(balance=balance, limit=200)) for balance in (False, True))
    assert same(list(plain["test"].batches(0)), list(balanced["test"].batches(0)))
    assert same(list(plain["validation"].batches(0)), list(balanced["validation"].batches(0)))
    assert not same(list(plain["train"].batches(0)), list(balanced["train"].batches(0)))
    # What shows the training split, such as the table of layers, has it as it is.
    assert plain["train"].examples == balanced["train"].examples


def test_only_classes_can_be_balanced_and_not_by_tokens() -> None:
    with pytest.raises(ValueError, match="balance=true needs classes"):
        opened(Diabetes(balance=True))
    with pytest.raises(ValueError, match="tokens_per_batch=null"):
        ToyReviews(balance=True, tokens_per_batch=100)


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [
        (33, 32, [33]),
        (65, 32, [32, 33]),
        (64, 32, [32, 32]),
        (66, 32, [32, 32, 2]),
        (3, 1, [1, 1, 1]),
        (1, 32, [1]),
        (5, 5, [5]),
        (3, 2, [3]),
    ],
)
def test_a_last_batch_of_one_joins_the_one_before(count: int, size: int, sizes: list[int]) -> None:
    made = stream(torch.zeros(count, dtype=torch.int64), size, balance=False)
    batches = list(made.batches(1))

    assert [len(batch["input"]) for batch in batches] == sizes
    assert made.steps_per_epoch == len(sizes)
    assert made.smallest_batch == min(sizes)
    assert torch.cat([b["input"] for b in batches]).sort().values.tolist() == list(range(count))
    assert [len(made.rows(1, position)) for position in range(len(sizes))] == sizes


def task(*layers: nn.Module) -> Task:
    return Classification(nn.Sequential(*layers), classes("ab", 2))


def data(count: int, size: int) -> TensorStream:
    target = torch.arange(count) % 2
    batching = Batching(Limits(size), CPU, lambda batch, draw: batch, 0, True)
    return TensorStream({"input": torch.randn(count, 2), "target": target}, batching)


def test_batch_norm_on_a_batch_of_one_is_refused_before_the_run() -> None:
    normed = task(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))
    maps = task(
        nn.Unflatten(1, (2, 1, 1)), nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(),
        nn.Linear(3, 2),
    )  # fmt: skip
    single, alone, joined = data(4, 1), FirstBatches(data(1, 8), 1), data(33, 32)
    before = {name: value.clone() for name, value in normed.state_dict().items()}
    random = torch.get_rng_state()
    for one in (normed, maps):
        with pytest.raises(UserError, match=r"data.batch_size: .* no variance.*2 or more"):
            require_variance(one, single)
        with pytest.raises(UserError, match="no variance"):
            require_variance(one, alone)
        require_variance(one, joined)
    assert all(torch.equal(value, before[name]) for name, value in normed.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


def test_a_batch_of_one_that_can_be_normed_is_not_refused() -> None:
    wide = task(
        nn.Unflatten(1, (1, 1, 2)), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(2, 2)
    )  # fmt: skip
    for one in (wide, task(nn.Linear(2, 2), nn.LayerNorm(2))):
        require_variance(one, data(4, 1))
